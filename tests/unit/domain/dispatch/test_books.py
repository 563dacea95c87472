"""Jobs in and out: claims that are lost or fail, limits, changed rules; nothing is kept of what is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.values import Limits
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.clock import NOON
from tests.fixtures.dispatch import GB, Desk, assert_empty, audit, waiting_job
from tests.fixtures.factories import make_rules, node_key

WAIT = timedelta(minutes=10)


def test_a_known_job_is_passed_over_when_it_is_added_again() -> None:
    desk = Desk()
    desk.add(1)
    desk.add(1, priority=1000)
    assert len(desk.matchmaker) == 1
    assert desk.ask(1, count=2) == [1]


def test_a_given_job_may_be_added_again() -> None:
    desk = Desk()
    desk.add(1)
    desk.ask(1)
    assert 1 not in desk.matchmaker
    desk.add(1)
    assert 1 in desk.matchmaker
    assert desk.ask(1) == [1]


def test_a_removed_job_is_given_to_nobody() -> None:
    desk = Desk()
    desk.add(1)
    desk.add(2)
    desk.matchmaker.remove([1, 99])
    assert desk.ask(1, count=2) == [2]


def test_a_lost_job_is_not_given_again() -> None:
    desk = Desk()
    desk.add(1)
    desk.ask(1)
    desk.matchmaker.lost([1, 99])
    assert desk.ask(1) == []


def test_a_job_given_back_goes_to_whoever_asks_next() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.node(3, [3])
    desk.add(1, {1: 10 * GB})
    assert desk.ask(1) == [1]
    desk.add(3, [3])
    assert desk.matchmaker.give_back([1], desk.time) == []
    # Neither held for node 1 nor behind what node 3 holds.
    assert desk.ask(3, count=2) == [1, 3]


def test_a_job_given_back_goes_to_who_waits() -> None:
    desk = Desk()
    desk.add(1)
    desk.ask(1)
    assert desk.matched(desk.request(2)) == []
    desk.matchmaker.give_back([1], desk.time)
    assert [a.match.job_id for a in desk.matched()] == [1]


def test_jobs_given_back_that_are_not_known_any_more_are_named() -> None:
    desk = Desk()
    desk.add(1)
    desk.add(2)
    desk.ask(1, count=2)
    desk.matchmaker.lost([2])
    assert desk.matchmaker.give_back([1, 2, 3], desk.time) == [2, 3]


def test_a_job_given_back_after_it_was_added_again_waits_once() -> None:
    desk = Desk()
    desk.add(1)
    desk.ask(1)
    desk.add(1)
    assert desk.matchmaker.give_back([1], desk.time) == []
    assert desk.ask(1, count=2) == [1]


def test_a_job_given_back_twice_does_not_take_two_turns() -> None:
    desk = Desk()
    desk.add(1)
    desk.add(2)
    for _ in range(3):
        desk.matchmaker.give_back(desk.ask(1), desk.time)
        audit(desk.matchmaker)
    assert desk.ask(1, count=3) == [1, 2]


def test_jobs_beyond_the_limit_are_named() -> None:
    desk = Desk(limits=Limits(jobs=2))
    jobs = [waiting_job(number) for number in (1, 2, 3, 4)]
    assert desk.matchmaker.add(jobs, NOON) == [3, 4]
    assert desk.matchmaker.room == 0
    # Known ones need no room.
    assert desk.matchmaker.add(jobs[:3], NOON) == [3]
    desk.ask(1)
    assert desk.matchmaker.room == 1
    assert desk.matchmaker.add(jobs[2:], NOON) == [4]


def test_jobs_that_are_too_large_for_the_queue_take_room() -> None:
    desk = Desk(make_rules(max_input_bytes=1), Limits(jobs=1))
    desk.add(1, [1])
    assert desk.matchmaker.add([waiting_job(2)], NOON) == [2]
    desk.matchmaker.remove([1])
    assert desk.matchmaker.room == 1


def test_of_a_job_with_many_files_the_largest_count() -> None:
    desk = Desk(limits=Limits(files_per_job=2))
    desk.node(1, [1])
    desk.node(2, [2])
    desk.add(1, {1: 2, 2: 5, 3: 4})
    standing = desk.matchmaker.standing(1, NOON)
    assert standing is not None
    assert standing.shares == [(node_key(2), 5)]
    assert desk.only_match(2).input_bytes == 11


def test_a_file_named_twice_counts_once() -> None:
    desk = Desk()
    desk.node(1, [1])
    job = waiting_job(1)
    twice = [(1, GB), (1, GB), (2, GB)]
    desk.matchmaker.add([type(job)(1, 0, NOON, twice)], NOON)
    match = desk.only_match(1)
    assert (match.local_bytes, match.input_bytes) == (GB, 2 * GB)


def test_changed_rules_hold_for_all_that_waits() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [2], priority=50)
    desk.add(2, [1], priority=0)
    desk.matchmaker.set_rules(make_rules(priority_band=10), desk.time)
    audit(desk.matchmaker)
    assert desk.ask(1, count=2) == [1, 2]


def test_the_same_rules_again_change_nothing() -> None:
    desk = Desk()
    desk.node(1, [2])
    desk.add(1, [1])
    desk.add(2, [2])
    assert desk.ask(1) == [2]
    before = desk.matchmaker.standing(1, desk.time)
    assert before is not None
    assert before.overdue_at is not None
    desk.matchmaker.set_rules(make_rules(), desk.time)
    assert desk.matchmaker.standing(1, desk.time) == before


def test_a_hold_follows_the_rules_of_today() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.add(1, {1: 10 * GB})
    assert desk.matched(desk.request(2)) == []
    desk.matchmaker.set_rules(make_rules(), desk.time)
    assert [a.match.job_id for a in desk.matched()] == [1]


def test_the_limit_of_today_says_which_jobs_are_too_large() -> None:
    desk = Desk()
    desk.add(1, [1])
    desk.add(2)
    assert desk.matched(desk.request(1, Requirements(disk_bytes=0), name="small")) != []
    waiting = desk.request(1, Requirements(disk_bytes=0), name="waits")
    assert desk.matched(waiting) == []
    # Not looked at yet when the rules change.
    desk.add(3, [3])
    desk.matchmaker.set_rules(make_rules(max_input_bytes=1), desk.time)
    assert desk.ask(2, count=3) == []
    desk.matchmaker.set_rules(make_rules(), desk.time)
    assert desk.ask(2, count=3) == [1, 3]


def test_ages_stay_when_rules_change() -> None:
    desk = Desk(make_rules(max_input_bytes=1))
    desk.add(1, [1])
    desk.now = 1
    desk.add(2)
    desk.matchmaker.set_rules(make_rules(), desk.time)
    assert desk.ask(1, count=2) == [1, 2]


def test_where_a_job_stands_is_told() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    for number in (1, 2):
        desk.node(number, range(number))
    for job_id in (1, 2, 3):
        desk.add(job_id)
    desk.add(4, {0: 9 * GB, 1: GB}, since=NOON - timedelta(minutes=1))
    standing = desk.matchmaker.standing(4, NOON)
    assert standing is not None
    assert standing.ahead == 3
    assert standing.held_for == node_key(2)
    assert standing.held_until == NOON + timedelta(minutes=9)
    assert standing.overdue_at is None
    assert standing.shares == [(node_key(2), 10 * GB), (node_key(1), 9 * GB)]
    assert not standing.too_large


def test_only_jobs_of_its_band_stand_ahead_of_a_job() -> None:
    desk = Desk()
    for job_id, priority in enumerate([0, 1000, 0, 1000, 0]):
        desk.add(job_id, priority=priority)
    standing = desk.matchmaker.standing(4, NOON)
    assert standing is not None
    assert standing.ahead == 2


def test_a_job_that_is_too_large_is_said_to_be() -> None:
    desk = Desk(make_rules(max_input_bytes=1))
    desk.add(1, [1])
    standing = desk.matchmaker.standing(1, NOON)
    assert standing is not None
    assert standing.too_large


def test_where_the_files_of_a_job_that_is_too_large_are_is_told_as_of_now() -> None:
    desk = Desk(make_rules(max_input_bytes=1))
    desk.node(1, [1])
    desk.add(1, [1])
    desk.matchmaker.forget(node_key(1))
    desk.node(2, [1])
    standing = desk.matchmaker.standing(1, NOON)
    assert standing is not None
    assert standing.shares == [(node_key(2), GB)]


def test_a_job_that_does_not_wait_stands_nowhere() -> None:
    desk = Desk()
    desk.add(1)
    desk.ask(1)
    assert desk.matchmaker.standing(1, NOON) is None
    assert desk.matchmaker.standing(2, NOON) is None


@pytest.mark.parametrize("end", ["given", "removed"])
def test_nothing_is_kept_of_jobs_that_are_gone(end: str) -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    for number in range(1, 6):
        desk.node(number, range(20 * number, 20 * number + 20))
    for job_id in range(200):
        desk.add(job_id, [job_id, job_id + 1], priority=job_id % 3 * 100, task_id=job_id % 7)
    if end == "removed":
        desk.matchmaker.remove(range(200))
    for hour in range(1, 4):
        desk.now = 3600 * hour
        for number in range(1, 6):
            desk.ask(number, count=40)
    for number in range(1, 6):
        desk.matchmaker.forget(node_key(number))
    assert_empty(desk.matchmaker)


def test_nothing_is_kept_of_jobs_behind_one_that_fits_nobody() -> None:
    desk = Desk()
    for number in range(1, 4):
        desk.node(number, [number])
    whale = Requirements(memory_bytes=4000)
    for job_id, files in enumerate([[], [1], [99]]):
        desk.add(job_id, files, requirements=whale)
    # Of the same class of needs, and found one after the other.
    small = Requirements(memory_bytes=2500)
    for job_id in range(10, 4010):
        desk.add(job_id, [[], [1], [job_id]][job_id % 3], requirements=small, task_id=1)
        assert desk.ask(job_id % 3 + 1, Requirements(memory_bytes=3000)) == [job_id]
    (mine,) = desk.matchmaker._state.bands()
    kept = len(mine._arrivals)
    for lane in mine._lanes.values():
        kept += len(lane.free) + len(lane.held) + len(lane.due) + len(lane.blocks)
        kept += len(lane.owned) + len(lane._open)
    for queue in mine._queues.values():
        kept += len(queue.due) + len(queue.fresh)
    assert kept < 2000


def test_little_is_kept_of_removed_jobs_while_others_wait() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [1])
    for job_id in range(10, 4010):
        desk.add(job_id, [1])
        desk.matchmaker.remove([job_id])
    (mine,) = desk.matchmaker._state.bands()
    assert len(mine._arrivals) < 2000
    assert len(mine._queues[0].fresh) < 2000
    assert desk.ask(1) == [1]


def test_little_is_kept_of_jobs_that_are_gone_in_the_lists_of_many_nodes() -> None:
    desk = Desk()
    for number in range(1, 101):
        desk.node(number, [number])
    desk.add(1, [1])
    for job_id in range(10, 4010):
        desk.add(job_id, [2 + job_id % 99])
        desk.matchmaker.remove([job_id])
    (mine,) = desk.matchmaker._state.bands()
    assert sum(len(queue.fresh) for queue in mine._queues.values()) < 2000


def test_of_many_nodes_that_hold_as_much_each_draws_some_jobs() -> None:
    desk = Desk()
    for number in range(1, 21):
        desk.node(number, range(100))
    for file in range(100):
        desk.add(file, {file: GB + file})
    (mine,) = desk.matchmaker._state.bands()
    assert len([queue for queue in mine._queues.values() if queue.fresh]) == 20


def test_two_matchmakers_that_are_told_the_same_do_the_same() -> None:
    def story(desk: Desk) -> list[int]:
        for number in range(1, 9):
            desk.node(number, [7 * number + n for n in range(30)])
        for job_id in range(300):
            desk.add(job_id, [job_id % 70, job_id % 11], task_id=job_id // 20)
        return [job_id for n in range(60) for job_id in desk.ask(1 + n % 8, count=2)]

    assert story(Desk()) == story(Desk())


def test_a_matchmaker_of_nothing_answers() -> None:
    matchmaker = Matchmaker(make_rules())
    assert matchmaker.match(NOON) == []
    assert matchmaker.next_hold_end() is None
    assert len(matchmaker) == 0
    assert matchmaker.oldest(10) == []
    matchmaker.cancel(["nobody"])
    assert_empty(matchmaker)
