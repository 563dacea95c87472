"""Nobody starves: for how long a job may be overtaken, and what happens then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.dispatch.matching import (
    BACKLOG_STRETCH,
    OVERTAKEN_S,
    PATIENT_AFTER_S,
    overtaken_s,
)
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import Desk
from tests.fixtures.factories import make_rules, seconds_after_noon


def test_a_job_may_be_overtaken_for_ten_minutes_in_a_short_queue() -> None:
    assert overtaken_s(0, 0) == overtaken_s(60, 60) == OVERTAKEN_S


def test_a_job_may_be_overtaken_for_as_long_as_the_queue_waits_for_files() -> None:
    assert overtaken_s(60, 2 * OVERTAKEN_S) == 2 * OVERTAKEN_S


def test_a_job_may_be_overtaken_for_longer_where_all_wait_for_long() -> None:
    assert overtaken_s(PATIENT_AFTER_S + 3600, 0) == BACKLOG_STRETCH * 3600


def overtaken_desk() -> Desk:
    """A desk at which job 1 was overtaken by job 2 at noon, for its file is on node 9."""
    desk = Desk()
    desk.node(9, [1])
    desk.node(1, range(100, 200))
    desk.add(1, [1])
    desk.add(2, [100])
    assert desk.ask(1) == [2]
    return desk


def test_the_turn_of_a_job_comes_when_as_many_are_given_as_were_there_before() -> None:
    desk = Desk()
    desk.node(1, [3])
    for job_id in (1, 2, 3):
        desk.add(job_id, [job_id])
    assert [standing_at(desk, job_id) for job_id in (1, 2, 3)] == [(0, None), (1, None), (2, None)]
    assert desk.ask(1) == [3]
    assert standing_at(desk, 1) == (0, OVERTAKEN_S)
    assert standing_at(desk, 2) == (0, None)


def standing_at(desk: Desk, job_id: int) -> tuple[int, float | None]:
    standing = desk.matchmaker.standing(job_id, desk.time)
    assert standing is not None
    at = standing.overdue_at
    return standing.ahead, None if at is None else (at - seconds_after_noon(0)).total_seconds()


def test_until_then_jobs_that_fit_a_node_better_go_first() -> None:
    desk = overtaken_desk()
    desk.now = OVERTAKEN_S - 1
    desk.add(3, [101])
    assert desk.ask(1) == [3]


def test_then_it_goes_to_whoever_asks_whatever_files_it_has() -> None:
    desk = overtaken_desk()
    desk.now = OVERTAKEN_S
    desk.add(3, [101])
    match = desk.only_match(1)
    assert (match.job_id, match.rule) == (1, MatchRule.AGE)


def test_an_overdue_job_still_has_to_fit() -> None:
    desk = Desk()
    desk.node(1, [2, 3])
    desk.add(1, [1], requirements=Requirements(cores=8))
    desk.add(2, [2])
    one_core = Requirements(cores=1)
    assert desk.ask(1, one_core) == [2]
    desk.now = OVERTAKEN_S
    desk.add(3, [3])
    assert desk.ask(1, one_core) == [3]
    assert desk.ask(1) == [1]


def test_overdue_jobs_that_fit_nobody_do_not_hide_one_that_fits() -> None:
    desk = Desk()
    desk.node(1, range(1000, 2000))
    for job_id in range(100):
        desk.add(job_id, [job_id], requirements=Requirements(memory_bytes=3000))
    desk.add(100, [100], requirements=Requirements(memory_bytes=2500))
    for job_id in range(1000, 1101):
        desk.add(job_id, [job_id])
    offer = Requirements(memory_bytes=2800)
    assert sorted(desk.ask(1, offer, count=101)) == list(range(1000, 1101))
    desk.now = OVERTAKEN_S
    desk.add(1200, [1200])
    assert desk.ask(1, offer) == [100]


def test_one_with_a_long_wait_does_not_hide_one_that_is_overdue() -> None:
    desk = Desk()
    desk.node(1, [10, 11, 12])
    desk.add(1, [1], since=desk.time - timedelta(hours=10))
    desk.add(2, [2])
    for job_id in (10, 11, 12):
        desk.add(job_id, [job_id])
    assert desk.ask(1, count=2) == [10, 11]
    # Job 1 may be overtaken for 19 hours, job 2 for ten minutes.
    desk.now = OVERTAKEN_S
    assert desk.ask(1) == [2]


def test_jobs_that_were_cancelled_do_not_delay_a_turn() -> None:
    desk = Desk()
    desk.node(1, [9])
    for job_id in (1, 2, 3, 9):
        desk.add(job_id, [job_id])
    desk.matchmaker.remove([1, 2])
    assert desk.ask(1) == [9]
    assert standing_at(desk, 3) == (0, OVERTAKEN_S)


def test_a_stream_of_jobs_that_fit_better_does_not_starve_one() -> None:
    desk = Desk(make_rules(locality_wait=timedelta(minutes=10)))
    desk.node(1, range(100, 1000))
    desk.add(1, [1])
    for minute in range(100):
        desk.now = 60 * minute
        desk.add(100 + minute, [100 + minute])
        if 1 in desk.ask(1):
            return
    pytest.fail("it was overtaken for 100 minutes")
