"""A job that was overtaken for long is left, for a last while, to the node where it costs least."""

from __future__ import annotations

from datetime import timedelta

from pandawn_server.domain.dispatch.matching import OVERTAKEN_S, PUT_OFF, put_off_s
from pandawn_server.domain.leases.attempts import MatchRule
from tests.fixtures.dispatch import Desk
from tests.fixtures.factories import make_rules

WAIT_S = 300.0


def overtaken_desk() -> Desk:
    """A desk where job 1, whose file is on node 9, is overdue; node 1 and node 9 hold those of others."""
    desk = Desk(make_rules(locality_wait=timedelta(seconds=WAIT_S)))
    desk.node(9, [1, *range(200, 300)])
    desk.node(1, range(100, 200))
    desk.add(1, [1])
    desk.add(2, [100])
    assert desk.ask(1) == [2]
    desk.now = OVERTAKEN_S
    desk.add(3, [101])
    return desk


def test_an_overdue_job_is_left_to_the_node_that_holds_its_files() -> None:
    desk = overtaken_desk()
    assert desk.ask(1) == [3]


def test_there_it_goes_before_jobs_that_would_cost_more_elsewhere() -> None:
    desk = overtaken_desk()
    assert desk.ask(1) == [3]
    desk.add(4, [200, 201, 202])
    match = desk.only_match(9)
    assert (match.job_id, match.rule) == (1, MatchRule.HELD)


def test_after_that_it_goes_to_whoever_asks() -> None:
    desk = overtaken_desk()
    assert desk.ask(1) == [3]
    desk.now += WAIT_S
    desk.add(4, [102])
    match = desk.only_match(1)
    assert (match.job_id, match.rule) == (1, MatchRule.AGE)


def test_no_slot_is_left_idle_for_it() -> None:
    desk = overtaken_desk()
    assert desk.ask(1, count=2) == [3, 1]


def test_an_overdue_job_whose_files_are_nowhere_waits_for_nobody() -> None:
    desk = overtaken_desk()
    desk.matchmaker.forget(desk.node(9, []))
    assert desk.ask(1) == [1]


def test_what_a_node_has_begun_is_left_to_that_node() -> None:
    desk = Desk(make_rules(locality_wait=timedelta(seconds=WAIT_S)))
    desk.node(1, range(100, 200))
    desk.node(2, range(300, 400))
    for job_id in (1, 2, 3):
        desk.add(job_id, [job_id], task_id=7)
    for job_id in (101, 102, 103):
        desk.add(job_id, [job_id])
    assert desk.ask(1, count=3) == [101, 102, 103]
    desk.now = OVERTAKEN_S
    for job_id in (104, 105, 301):
        desk.add(job_id, [job_id])
    assert desk.ask(1) == [1]
    assert desk.ask(2) == [301]
    assert desk.ask(1) == [2]


def test_the_last_while_is_in_proportion_to_the_wait() -> None:
    assert put_off_s(100_000, WAIT_S) == PUT_OFF * 100_000
    assert put_off_s(60, WAIT_S) == WAIT_S


def test_a_queue_that_does_not_wait_for_files_has_no_last_while() -> None:
    assert put_off_s(100_000, 0) == 0
