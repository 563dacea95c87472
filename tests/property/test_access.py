"""What a queue's list says does not depend on how it is read, and a denial cannot be outvoted."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.domain.access.lists import (
    AccessEntry,
    Effect,
    Identity,
    QueueRules,
    SubjectKind,
    decide,
    fits,
    matches,
)
from pandawn_server.domain.access.principals import Method
from tests.fixtures.clock import NOON

NAMES = st.sampled_from(["anna", "ben", "/atlas", "/atlas/higgs", "/CN=*", "/CN=anna*", "/CN=anna"])
LIMITS = st.none() | st.integers(0, 3)
ENTRIES = st.builds(
    AccessEntry,
    queue=st.just("Q"),
    kind=st.sampled_from(SubjectKind),
    subject=NAMES,
    effect=st.sampled_from(Effect),
    granted_by=st.just("root"),
    grant_time=st.just(NOON),
    expire_time=st.none() | st.sampled_from([NOON - timedelta(1), NOON, NOON + timedelta(1)]),
    max_running=LIMITS,
    max_waiting=LIMITS,
    priority_offset=st.none() | st.integers(-2, 2),
)
# A list holds one entry a subject.
LISTS = st.lists(ENTRIES, max_size=8, unique_by=lambda e: (e.kind, e.subject))
PEOPLE = st.builds(
    Identity,
    user=st.sampled_from(["anna", "ben"]),
    groups=st.lists(NAMES, max_size=3).map(tuple),
    method=st.sampled_from([None, Method.TOKEN, Method.X509]),
    subject=st.sampled_from(["/CN=anna", "/CN=anna b", "anna"]),
)
RULES = st.builds(QueueRules, st.booleans(), st.integers(0, 3), st.integers(0, 3))


@given(LISTS, PEOPLE, RULES, st.randoms(use_true_random=False))
def test_the_order_of_the_entries_does_not_matter(
    entries: list[AccessEntry], who: Identity, rules: QueueRules, rng: random.Random
) -> None:
    shuffled = list(entries)
    rng.shuffle(shuffled)
    assert decide(entries, who, rules, NOON) == decide(shuffled, who, rules, NOON)


@given(LISTS, PEOPLE, RULES, ENTRIES)
def test_a_denial_that_matches_wins_whatever_else_does(
    entries: list[AccessEntry], who: Identity, rules: QueueRules, entry: AccessEntry
) -> None:
    denial = replace(entry, effect=Effect.DENY, expire_time=None)
    decision = decide([*entries, denial], who, rules, NOON)
    assert decision.is_allowed is False or not matches(denial, who)


@given(LISTS, PEOPLE, RULES)
def test_entries_that_do_not_match_or_have_expired_change_nothing(
    entries: list[AccessEntry], who: Identity, rules: QueueRules
) -> None:
    alive = [entry for entry in entries if matches(entry, who) and entry.is_valid(NOON)]
    assert decide(entries, who, rules, NOON) == decide(alive, who, rules, NOON)


@given(LISTS, PEOPLE, RULES)
def test_an_entry_for_the_user_decides_each_limit_that_it_names(
    entries: list[AccessEntry], who: Identity, rules: QueueRules
) -> None:
    decision = decide(entries, who, rules, NOON)
    own = [e for e in decision.matching if e.kind is SubjectKind.USER and e.effect is Effect.ALLOW]
    for entry in own:
        assert entry.max_running in {None, decision.max_running.value}
        assert entry.max_waiting in {None, decision.max_waiting.value}
        assert entry.priority_offset in {None, decision.priority_offset.value}


@given(st.text("ab*", max_size=12), st.text("ab*", max_size=12))
def test_a_pattern_fits_what_the_regular_expression_of_the_same_meaning_fits(
    pattern: str, text: str
) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert fits(pattern, text) == bool(re.fullmatch(expression, text))
