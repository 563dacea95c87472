"""Which jobs are held for a better node, for how long, and when not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.dispatch.matching import MOVE_BYTES_PER_S, WAIT_PER_MOVE, Rules
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import GB, Desk
from tests.fixtures.factories import make_rules, node_key

WAIT = timedelta(minutes=10)
LARGE = 10 * GB
"""Takes longer to move than a tenth of the wait, so that it is held for all of it."""


def desk_with_holder(rules: Rules | None = None) -> Desk:
    """A desk at which job 1 waits, whose file is on node 1."""
    desk = Desk(rules or make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.add(1, {1: LARGE})
    return desk


def test_a_job_is_held_for_the_node_that_has_its_files() -> None:
    desk = desk_with_holder()
    assert desk.held_for(1) == node_key(1)
    assert desk.ask(2) == []
    assert desk.only_match(1).rule is MatchRule.HELD


def test_a_hold_ends_when_the_wait_of_the_queue_is_over() -> None:
    desk = desk_with_holder()
    desk.now = 599
    assert desk.ask(2) == []
    desk.now = 600
    assert desk.held_for(1) is None
    assert desk.ask(2) == [1]


def test_a_hold_counts_from_when_the_job_became_runnable() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.now = 599
    desk.add(1, {1: LARGE}, since=desk.time - timedelta(seconds=599))
    assert desk.ask(2) == []
    desk.now = 600
    assert desk.ask(2) == [1]


def test_without_a_wait_no_job_is_held() -> None:
    desk = desk_with_holder(make_rules(locality_wait=timedelta(0)))
    assert desk.held_for(1) is None
    assert desk.ask(2) == [1]


def test_a_job_that_is_quickly_moved_is_held_for_less() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.add(1, {1: int(3 * MOVE_BYTES_PER_S)})
    desk.now = 3 * WAIT_PER_MOVE - 1
    assert desk.ask(2) == []
    desk.now = 3 * WAIT_PER_MOVE
    assert desk.ask(2) == [1]


def test_another_job_of_the_band_is_given_while_one_is_held() -> None:
    desk = desk_with_holder()
    desk.add(2, [2])
    assert desk.ask(2) == [2]


@pytest.mark.parametrize("files", [[], [3], [2]])
def test_a_held_job_is_given_before_any_of_a_lower_band(files: list[int]) -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.node(2, [2])
    desk.add(1, {1: LARGE}, priority=100)
    desk.add(2, files, priority=0)
    assert desk.only_match(2).job_id == 1
    assert desk.ask(2) == [2]


def test_a_held_job_is_given_before_a_new_one_of_a_lower_band_to_who_waits() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.add(1, {1: LARGE}, priority=100)
    assert desk.matched(desk.request(2)) == []
    desk.add(2, priority=0)
    assert [a.match.job_id for a in desk.matched()] == [1]


def test_a_held_job_that_does_not_fit_leaves_the_lower_band_to_the_node() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.add(1, {1: LARGE}, priority=100, requirements=Requirements(cores=8))
    desk.add(2, priority=0)
    assert desk.ask(2, Requirements(cores=1)) == [2]


def test_no_job_is_held_for_a_node_without_pilots() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1], live=False)
    desk.add(1, {1: LARGE})
    assert desk.ask(2) == [1]


@pytest.mark.parametrize("event", ["its pilots leave", "its cache is forgotten"])
def test_a_hold_ends_when(event: str) -> None:
    desk = desk_with_holder()
    if event == "its pilots leave":
        desk.matchmaker.set_live(node_key(1), live=False)
    else:
        desk.matchmaker.forget(node_key(1))
    assert desk.held_for(1) is None
    assert desk.ask(2) == [1]


def test_who_waits_gets_a_job_at_once_when_its_hold_ends_early() -> None:
    desk = desk_with_holder()
    assert desk.matched(desk.request(2)) == []
    desk.matchmaker.set_live(node_key(1), live=False)
    assert [a.match.job_id for a in desk.matched()] == [1]


def test_who_waits_gets_a_job_when_its_hold_is_over() -> None:
    desk = desk_with_holder()
    assert desk.matchmaker.next_hold_end() is None
    assert desk.matched(desk.request(2)) == []
    end = desk.matchmaker.next_hold_end()
    assert end == desk.time + WAIT
    desk.now = 600
    assert [a.match.job_id for a in desk.matched()] == [1]


def test_no_job_is_held_for_a_node_that_has_never_offered_enough_for_it() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.ask(1, Requirements(cores=4))
    desk.add(1, {1: LARGE}, requirements=Requirements(cores=8))
    assert desk.held_for(1) is None
    assert desk.ask(2) == [1]


def test_a_node_that_takes_jobs_seldom_is_not_waited_for() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    for hour in range(4):
        desk.now = 3600 * hour
        desk.add(hour)
        desk.ask(1)
    desk.now += 60
    desk.add(10, {1: LARGE})
    assert desk.held_for(10) is None


def test_no_more_jobs_are_held_for_a_node_than_it_takes_in_time() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    # One job in ten minutes.
    for number in range(12):
        desk.now = 600 * number
        desk.add(number)
        desk.ask(1)
    for job_id in range(100, 120):
        desk.add(job_id, {1: LARGE})
    held = [job_id for job_id in range(100, 120) if desk.held_for(job_id)]
    assert 1 <= len(held) <= 3
    # The others go to whoever asks.
    assert desk.ask(2) == [100 + len(held)]
