"""What entries of a queue's list mean, one by one and against each other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.access.lists import (
    AccessEntry,
    Decision,
    Effect,
    Ground,
    Identity,
    QueueRules,
    SubjectKind,
    decide,
    sentence,
)
from pandawn_server.domain.access.principals import Method
from tests.fixtures.clock import NOON

ANNA = Identity("anna", ("/atlas/higgs", "locals"), Method.TOKEN, "https://iam.example.org#anna")
CLOSED = QueueRules(is_open=False)
K = SubjectKind


def entry(kind: SubjectKind, subject: str = "", effect: Effect = Effect.ALLOW, **more: Any) -> Any:
    return AccessEntry("Q", kind, subject, effect, "root", NOON, **more)


def ask(*entries: AccessEntry, who: Identity = ANNA, rules: QueueRules = CLOSED) -> Decision:
    return decide(entries, who, rules, NOON)


def test_an_open_queue_takes_whom_its_list_does_not_know() -> None:
    assert ask(rules=QueueRules()).ground is Ground.OPEN
    assert ask().ground is Ground.NOT_LISTED


@pytest.mark.parametrize(
    ("one", "is_allowed"),
    [
        (entry(K.USER, "anna"), True),
        (entry(K.USER, "ann"), False),
        (entry(K.GROUP, "locals"), True),
        (entry(K.GROUP, "/atlas/higgs"), True),
        (entry(K.GROUP, "/atlas"), False),
        (entry(K.TOKEN_GROUP, "/atlas/higgs"), True),
        (entry(K.TOKEN_GROUP, "/atlas"), True),
        (entry(K.TOKEN_GROUP, "/atl"), False),
        (entry(K.TOKEN_GROUP, "/atlas/higgs/zz"), False),
        (entry(K.TOKEN_GROUP, "loc"), False),
        (entry(K.EVERYBODY), True),
        (entry(K.DN, "*"), False),
    ],
    ids=str,
)
def test_whom_an_entry_allows(one: AccessEntry, is_allowed: bool) -> None:
    assert ask(one).is_allowed is is_allowed


def test_a_certificate_is_matched_as_a_whole_and_its_groups_are_no_token_s() -> None:
    ben = Identity("ben", ("/atlas",), Method.X509, "/DC=org/DC=example/CN=Ben B")
    assert ask(entry(K.DN, "/DC=org/DC=example/*"), who=ben).is_allowed
    assert ask(entry(K.DN, "/DC=org/DC=example/CN=Ben B"), who=ben).is_allowed
    assert not ask(entry(K.DN, "/DC=org/DC=example/CN=Ben"), who=ben).is_allowed
    assert not ask(entry(K.DN, "CN=Ben B"), who=ben).is_allowed
    assert not ask(entry(K.TOKEN_GROUP, "/atlas"), who=ben).is_allowed
    assert ask(entry(K.GROUP, "/atlas"), who=ben).is_allowed


def test_a_name_alone_has_no_certificate() -> None:
    assert not ask(entry(K.DN, "*"), who=Identity("anna")).is_allowed


def test_a_denied_group_stays_out_though_the_user_is_listed() -> None:
    decision = ask(entry(K.USER, "anna"), entry(K.GROUP, "locals", Effect.DENY))
    assert decision.ground is Ground.DENIED
    assert decision.entry is not None
    assert decision.entry.subject == "locals"
    assert sentence(decision, ANNA, "Q") == (
        "anna may not use queue Q: its list denies group locals, which overrides that it allows user anna"
    )


def test_an_entry_ends_at_its_time() -> None:
    ends = entry(K.USER, "anna", expire_time=NOON + timedelta(seconds=1))
    assert decide([ends], ANNA, CLOSED, NOON).is_allowed
    assert not decide([ends], ANNA, CLOSED, NOON + timedelta(seconds=1)).is_allowed


def test_the_most_specific_entry_that_names_a_limit_sets_it() -> None:
    decision = ask(
        entry(K.EVERYBODY, max_running=1, max_waiting=10, priority_offset=-5),
        entry(K.GROUP, "locals", max_running=20),
        entry(K.USER, "anna", priority_offset=100),
    )
    assert decision.max_running.value == 20
    assert decision.max_waiting.value == 10
    assert decision.priority_offset.value == 100


def test_a_deeper_group_of_a_token_is_more_specific_than_a_longer_name() -> None:
    who = Identity("anna", ("/verylongname", "/a/b"), Method.TOKEN)
    decision = ask(
        entry(K.TOKEN_GROUP, "/verylongname", max_running=50),
        entry(K.TOKEN_GROUP, "/a/b", max_running=2),
        who=who,
    )
    assert decision.max_running.value == 2


def test_of_two_groups_the_more_generous_counts_and_no_limit_is_the_most_generous() -> None:
    who = Identity("anna", ("a", "b"))
    few = entry(K.GROUP, "a", max_running=2, max_waiting=2)
    more = entry(K.GROUP, "b", max_running=5, max_waiting=0)
    decision = ask(few, more, who=who)
    assert decision.max_running.value == 5
    assert decision.max_waiting.value == 0


def test_where_no_entry_names_a_limit_the_queue_s_own_holds() -> None:
    rules = QueueRules(is_open=True, max_running=7, max_waiting=70)
    decision = ask(entry(K.USER, "anna"), rules=rules)
    assert (decision.max_running.value, decision.max_running.entry) == (7, None)
    assert decision.max_waiting.value == 70
