"""Which job a node gets: needs, bands, bytes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import GB, Desk, audit
from tests.fixtures.factories import make_rules

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("needs", "offer"),
    [
        (Requirements(memory_bytes=3 * GB), Requirements(memory_bytes=2 * GB)),
        (Requirements(cores=8), Requirements(cores=7)),
        (Requirements(disk_bytes=3 * GB), Requirements(disk_bytes=2 * GB)),
        (Requirements(wall_time=2 * HOUR), Requirements(wall_time=HOUR)),
    ],
)
def test_a_node_that_offers_less_than_a_job_needs_gets_the_next_one(
    needs: Requirements, offer: Requirements
) -> None:
    desk = Desk()
    desk.add(1, requirements=needs)
    desk.add(2)
    assert desk.ask(1, offer) == [2]
    assert desk.ask(1, offer) == []
    assert desk.ask(1, needs) == [1]


def test_a_node_that_holds_all_files_of_a_job_does_not_get_it_if_it_does_not_fit() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [1], requirements=Requirements(cores=8))
    desk.add(2, [2])
    assert desk.ask(1, Requirements(cores=1)) == [2]


def test_inputs_need_room_on_the_disk_too() -> None:
    desk = Desk()
    desk.add(1, [1, 2, 3])
    assert desk.ask(1, Requirements(disk_bytes=3 * GB - 1)) == []
    assert desk.ask(1, Requirements(disk_bytes=3 * GB)) == [1]


def test_a_job_with_more_input_than_the_queue_allows_is_given_to_nobody() -> None:
    desk = Desk(make_rules(max_input_bytes=2 * GB))
    desk.add(1, [1, 2, 3])
    desk.add(2, [1, 2])
    assert desk.ask(1, count=2) == [2]


@pytest.mark.parametrize("many", [1_000, 5_000])
def test_jobs_that_fit_nobody_do_not_keep_others_from_those_behind(many: int) -> None:
    desk = Desk()
    # Of the same class of needs as the one that fits, with files nowhere, elsewhere, and without.
    desk.node(1, [1])
    for job_id in range(many):
        desk.add(job_id, [[1], [2], []][job_id % 3], requirements=Requirements(memory_bytes=3000))
    for job_id in (many, many + 1, many + 2):
        desk.add(job_id, [[1], [2], []][job_id % 3], requirements=Requirements(memory_bytes=2500))
    offer = Requirements(memory_bytes=2800)
    assert set(desk.ask(2, offer, count=3)) == {many, many + 1, many + 2}
    assert desk.ask(2, offer) == []


def test_jobs_that_fit_nobody_do_not_keep_a_node_from_those_whose_files_it_holds() -> None:
    desk = Desk()
    desk.node(1, [1])
    for job_id in range(100):
        desk.add(job_id, [1], requirements=Requirements(cores=8))
    desk.add(100)
    desk.add(101, [1], requirements=Requirements(cores=1))
    offer = Requirements(cores=1)
    # It may take a search of its files, which is made once a minute.
    got = desk.ask(1, offer)
    desk.now = 61
    assert 101 in got + desk.ask(1, offer)


def test_the_higher_band_goes_first_whatever_the_node_holds() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [1], priority=99)
    desk.add(2, [2], priority=100)
    assert desk.ask(1) == [2]


def test_inside_a_band_files_go_before_priority() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [2], priority=99)
    desk.add(2, [1], priority=0)
    assert desk.ask(1) == [2]


def test_the_width_of_a_band_is_the_queues_to_say() -> None:
    desk = Desk(make_rules(priority_band=10))
    desk.node(1, [1])
    desk.add(1, [2], priority=10)
    desk.add(2, [1], priority=9)
    assert desk.ask(1) == [1]


def test_negative_priorities_stand_in_bands_below_zero() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [1], priority=-1)
    desk.add(2, [2], priority=0)
    assert desk.ask(1) == [2]


def test_a_node_gets_a_job_of_a_lower_band_when_nothing_of_the_higher_fits() -> None:
    desk = Desk()
    desk.add(1, priority=1000, requirements=Requirements(cores=8))
    desk.add(2, priority=0)
    assert desk.ask(1, Requirements(cores=1)) == [2]


def test_the_job_with_the_fewest_bytes_left_to_move_goes_first() -> None:
    desk = Desk()
    desk.node(1, [1, 2, 3, 4])
    desk.add(1, [1, 2, 3, 11, 12])
    desk.add(2, [4, 11])
    assert desk.ask(1, count=2) == [2, 1]


def test_bytes_count_not_files() -> None:
    desk = Desk()
    desk.node(1, [1, 2, 3, 4])
    desk.add(1, {1: GB, 2: GB, 3: GB, 11: 9 * GB})
    desk.add(2, {4: 9 * GB, 11: GB, 12: GB, 13: GB})
    assert desk.ask(1) == [2]


def test_files_on_their_way_to_a_node_count_as_nearly_there() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [2])
    assert desk.ask(1) == [1]
    desk.add(2, [3])
    desk.add(3, [2])
    assert desk.ask(1) == [3]


def test_what_a_node_has_goes_before_what_is_on_its_way_to_it() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [2])
    desk.ask(1)
    desk.add(2, [2])
    desk.add(3, [1])
    assert desk.ask(1, count=2) == [3, 2]


def test_files_that_did_not_come_in_20_minutes_do_not_count() -> None:
    desk = Desk()
    desk.add(1, [1])
    desk.ask(1)
    desk.now = 1201
    desk.add(2, [2])
    desk.add(3, [1])
    assert desk.ask(1) == [2]


def test_a_node_gets_jobs_whose_files_are_nowhere_before_those_whose_files_are_elsewhere() -> None:
    desk = Desk()
    desk.node(2, [1])
    desk.add(1, [1])
    desk.add(2, [2])
    assert desk.ask(1, count=2) == [2, 1]


@pytest.mark.parametrize("wait", [0, 600])
def test_a_file_that_all_jobs_want_may_come(wait: int) -> None:
    desk = Desk(make_rules(locality_wait=timedelta(seconds=wait)))
    for job_id in range(2000):
        desk.add(job_id, {1: 10 * GB}, task_id=1)
    desk.add(2000, [2])
    desk.node(1, [1])
    got = [job_id for number in range(2, 30) for job_id in desk.ask(number, count=2)]
    # The node cannot take them all in time: the others go to whoever asks.
    assert len(got) == 56
    audit(desk.matchmaker)


def test_a_job_whose_files_came_somewhere_since_it_was_added_is_left_for_that_node() -> None:
    desk = Desk()
    desk.add(1, [1])
    desk.add(2, [2])
    desk.node(2, [1])
    assert desk.ask(1) == [2]


def test_among_jobs_of_equal_merit_the_oldest_goes_first() -> None:
    desk = Desk()
    for job_id in (5, 3, 4):
        desk.add(job_id)
    assert desk.ask(1, count=3) == [5, 3, 4]


def test_a_job_is_found_however_deep_it_stands_in_the_queue() -> None:
    desk = Desk()
    desk.node(1, [1])
    for job_id in range(3000):
        desk.add(job_id, [job_id + 10])
    desk.add(3000, [1])
    assert desk.ask(1) == [3000]


def test_a_node_that_gets_a_file_later_gets_the_jobs_that_want_it() -> None:
    desk = Desk()
    key = desk.node(1)
    for job_id in range(100):
        desk.add(job_id, [job_id])
    desk.matchmaker.change(key, 1, 2, added=[77])
    assert desk.ask(1) == [77]


def test_a_file_on_more_than_64_nodes_draws_no_job() -> None:
    desk = Desk()
    for number in range(1, 66):
        desk.node(number, [1])
    desk.add(1, [1])
    # As one whose files are nowhere.
    assert desk.ask(66) == [1]


def test_neighbouring_jobs_of_a_task_go_to_the_node_that_began_with_them() -> None:
    desk = Desk()
    for job_id in range(16):
        desk.add(job_id, [job_id], task_id=1)
    assert desk.ask(1) == [0]
    assert desk.ask(2) == [8]
    assert desk.ask(1, count=3) == [1, 2, 3]
    assert desk.ask(2, count=3) == [9, 10, 11]


def test_a_begun_block_is_given_to_others_before_they_idle() -> None:
    desk = Desk()
    for job_id in range(4):
        desk.add(job_id, [job_id], task_id=1)
    assert desk.ask(1) == [0]
    assert desk.ask(2, count=3) == [1, 2, 3]


def test_jobs_of_different_tasks_are_no_neighbours() -> None:
    desk = Desk()
    for job_id in range(4):
        desk.add(job_id, [job_id], task_id=1 + job_id % 2)
    assert desk.ask(1) == [0]
    assert desk.ask(2, count=2) == [1, 3]
