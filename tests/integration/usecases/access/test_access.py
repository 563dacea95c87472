"""Lists decide who submits where, and how much waits there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.access.lists import Ground, SubjectKind
from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.usecases.access.lists import (
    Checked,
    check_access,
    list_access,
    revoke_access,
)
from tests.fixtures.access import deny, grant, submit
from tests.fixtures.clock import NOON
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.principals import ADMIN, ANNA, BEN, MONITOR, OPERATOR, STRANGER, make_principal
from tests.fixtures.world import World

K, WAITING, ACTIVATED = SubjectKind, JobState.WAITING, JobState.ACTIVATED
LOOK = timedelta(seconds=1)


def check(world: World, user: str, *groups: str, by: Any = ADMIN) -> Checked:
    return check_access(world.context, QUEUE, user, groups, by)


def refused(act: Any) -> PandawnError:
    with pytest.raises(PandawnError) as caught:
        act()
    return caught.value


@pytest.mark.parametrize("by", [ANNA, STRANGER, MONITOR], ids=lambda p: p.name)
def test_lists_are_kept_and_read_by_the_site_s_administrators_only(world: World, by: Any) -> None:
    grant(world, K.USER, "anna")
    for act in (
        lambda: grant(world, K.USER, "ben", by=by),
        lambda: revoke_access(world.context, QUEUE, K.USER, "anna", by),
        lambda: list_access(world.context, QUEUE, None, 9, by),
        lambda: check(world, "ben", by=by),
    ):
        error = refused(act)
        assert (error.reason, error.metadata["site"]) == ("SITE_ADMIN_REQUIRED", SITE)


def test_an_entry_is_written_with_its_author_and_replaces_the_one_before(world: World) -> None:
    first = grant(world, K.USER, "anna", max_running=3, message="friend")
    assert (first.entry.granted_by, first.entry.grant_time, first.replaced) == ("rosa", NOON, None)
    world.advance(minutes=1)
    again = grant(world, K.USER, "anna", max_running=3, message="friend", by=OPERATOR)
    assert again.entry == first.entry
    second = deny(world, K.USER, "anna")
    assert second.replaced == first.entry
    assert list_access(world.context, QUEUE, None, 9, ADMIN)[0] == [second.entry]
    assert world.told()[-2:] == ["ACCESS_GRANTED", "ACCESS_GRANTED"]
    assert revoke_access(world.context, QUEUE, K.USER, "anna", ADMIN).entry == second.entry
    error = refused(lambda: revoke_access(world.context, QUEUE, K.USER, "anna", ADMIN))
    assert error.reason == "ACCESS_ENTRY_NOT_FOUND"


def test_an_entry_that_makes_no_sense_is_refused_with_all_that_is_wrong(world: World) -> None:
    error = refused(
        lambda: deny(world, K.EVERYBODY, "x", max_running=1, priority_offset=0, expire_time=NOON)
    )
    assert [v.field for v in error.violations] == [
        "entry.subject",
        "entry.expire_time",
        "entry.max_running",
        "entry.priority_offset",
    ]


def test_a_list_is_read_page_by_page(world: World) -> None:
    for name in ("c", "a", "b"):
        grant(world, K.USER, name)
    grant(world, K.EVERYBODY)
    seen, after = [], None
    while page := list_access(world.context, QUEUE, after, 3, ADMIN)[0]:
        seen += [entry.subject for entry in page]
        after = (page[-1].kind.value, page[-1].subject)
    assert seen == ["", "a", "b", "c"]


def test_a_denied_user_is_refused_with_whom_to_ask_and_not_told_why(world: World) -> None:
    deny(world, K.USER, "anna", message="mined coins")
    world.by = ANNA
    error = refused(lambda: submit(world, queue=QUEUE))
    assert error.reason == "QUEUE_ACCESS_DENIED"
    assert error.metadata == {"queue": QUEUE, "site": SITE, "user": "anna"}
    assert SITE in error.message
    assert "coins" not in error.message
    world.by = BEN
    submit(world, queue=QUEUE)


def test_a_denial_ends_at_its_time(world: World) -> None:
    deny(world, K.USER, "anna", expire_time=NOON + timedelta(hours=1))
    world.by = ANNA
    refused(lambda: submit(world))
    world.advance(hours=1)
    submit(world)


def test_a_queue_that_the_user_may_not_use_is_passed_over_with_the_reason(world: World) -> None:
    world.queue("ANALY_TWO")
    deny(world, K.USER, "anna")
    world.by = ANNA
    view = world.submit(user="", queue="", dataset="d")
    assert view.task.queue == "ANALY_TWO"
    assert view.task.passed_over == f"{QUEUE}: not for anna"
    assert world.why(1).passed_over == f"{QUEUE}: not for anna"
    assert world.events()[-1].event.text.endswith(f"skipped queues: {QUEUE}: not for anna")
    deny(world, K.EVERYBODY, queue="ANALY_TWO")
    error = refused(lambda: world.submit(user="", queue="", dataset="e"))
    assert error.reason == "QUEUE_ACCESS_DENIED"
    assert "any of the 2 online queues" in error.message


def test_lists_hold_for_users_for_whom_the_operator_submits(world: World) -> None:
    deny(world, K.USER, "anna", by=LOCAL_OPERATOR)
    assert refused(world.submit).reason == "QUEUE_ACCESS_DENIED"


def test_groups_that_a_user_showed_count_when_an_operator_retries_and_in_a_check(
    world: World,
) -> None:
    world.by = make_principal("anna", groups=("/atlas/higgs",))
    (job,) = world.submit_jobs(1, user="")
    world.cancel(job.job_id)
    deny(world, K.TOKEN_GROUP, "/atlas")
    world.by = OPERATOR
    assert refused(lambda: world.retry(job.job_id)).reason == "QUEUE_ACCESS_DENIED"
    checked = check(world, "anna")
    assert checked.who.groups == ("/atlas/higgs",)
    assert checked.decision.ground is Ground.DENIED
    assert check(world, "ben").decision.ground is Ground.OPEN


def test_a_check_with_groups_asks_as_if_the_user_had_them(world: World) -> None:
    deny(world, K.GROUP, "guests")
    assert not check(world, "ben", "guests").decision.is_allowed
    assert check(world, "ben", "staff").decision.is_allowed


def test_a_user_asks_about_itself_and_gets_no_entries(world: World) -> None:
    deny(world, K.USER, "anna", message="mined coins")
    own = check_access(world.context, QUEUE, "", (), ANNA)
    assert (own.decision.is_allowed, own.shows_entries) == (False, False)
    assert "list denies" not in own.sentence
    assert SITE in own.sentence


def test_a_priority_offset_is_added_at_submission_and_kept_by_retries(world: World) -> None:
    grant(world, K.GROUP, "locals", priority_offset=500)
    world.by = make_principal("anna", groups=("locals",))
    (job,) = world.submit_jobs(1, user="", priority=7)
    assert job.priority == 507
    world.cancel(job.job_id)
    assert world.retry(job.job_id).priority == 507


def test_more_waiting_jobs_than_allowed_are_refused_with_the_numbers(world: World) -> None:
    grant(world, K.USER, "anna", max_waiting=5)
    world.by = ANNA
    submit(world, 3)
    error = refused(lambda: submit(world, 3))
    assert error.reason == "WAITING_LIMIT_REACHED"
    assert [error.metadata[n] for n in ("waiting", "new", "limit")] == ["3", "3", "5"]
    submit(world, 2)
    # What a pilot has does not wait any more.
    world.take()
    submit(world, 1)
    world.by = BEN
    submit(world, 9)


def test_a_full_queue_is_passed_over(world: World) -> None:
    world.queue("ANALY_TWO")
    grant(world, K.USER, "anna", max_waiting=1)
    world.by = ANNA
    submit(world, 1, queue=QUEUE)
    # Else it would be the better one.
    world.pilot()
    view = world.submit(user="", queue="", job_count=2, inputs=(), dataset="d")
    assert view.task.queue == "ANALY_TWO"
    assert view.task.passed_over == f"{QUEUE}: anna has 1 waiting jobs, the limit is 1"


def test_the_identity_of_a_user_is_the_one_last_seen(world: World) -> None:
    for groups in (("a",), ("b",), ("b",)):
        world.by = replace(ANNA, groups=groups)
        submit(world)
    assert check(world, "anna").who.groups == ("b",)


def test_a_queue_that_is_not_open_takes_those_on_its_list_only(world: World) -> None:
    world.queue(QUEUE, open_access=False)
    granted = grant(world, K.USER, "anna")
    assert not granted.is_open
    world.by = ANNA
    submit(world)
    world.by = BEN
    assert refused(lambda: submit(world)).reason == "QUEUE_ACCESS_DENIED"
    assert check(world, "ben").decision.ground is Ground.NOT_LISTED
