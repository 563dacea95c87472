"""Two-sided matching: which of the nodes that wait or ask at once gets a job."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import GB, Desk, by_request
from tests.fixtures.factories import make_rules, node_key


def waiting(desk: Desk, *nodes: int, offer: Requirements | None = None) -> None:
    """Lets a request of each node wait, by the name of its number."""
    requests = [desk.request(node, offer or Requirements(), name=f"of {node}") for node in nodes]
    assert desk.matched(*requests) == []


def test_a_new_job_goes_to_the_waiting_node_that_holds_most_of_it() -> None:
    desk = Desk()
    for number, files in enumerate([[], [1], [1, 2], [2]], start=1):
        desk.node(number, files)
    waiting(desk, 1, 2, 3, 4)
    desk.add(1, [1, 2])
    (given,) = desk.matched()
    assert given.node == node_key(3)
    assert given.match.local_bytes == 2 * GB


def test_of_new_jobs_each_goes_to_the_waiting_node_that_holds_it() -> None:
    desk = Desk()
    for number in range(1, 11):
        desk.node(number, [number])
    waiting(desk, *range(1, 11))
    for number in range(10, 0, -1):
        desk.add(number, [number])
    assert by_request(desk.matched()) == {f"of {n}": [n] for n in range(1, 11)}


def test_a_new_job_goes_to_who_holds_less_of_it_rather_than_nothing() -> None:
    desk = Desk()
    desk.node(1)
    desk.node(2, [1])
    desk.node(3, [1, 2])
    waiting(desk, 1, 2)
    desk.add(1, [1, 2])
    (given,) = desk.matched()
    assert given.node == node_key(2)


def test_a_new_job_that_nobody_holds_goes_to_the_node_with_most_free_slots() -> None:
    desk = Desk()
    assert desk.matched(desk.request(1), desk.request(2), desk.request(2)) == []
    desk.add(1)
    (given,) = desk.matched()
    assert given.node == node_key(2)


def test_two_neighbours_are_packed_on_one_node_while_all_idle() -> None:
    desk = Desk()
    assert desk.matched(*[desk.request(node) for node in (1, 2, 1, 2, 1, 2)]) == []
    for job_id in range(4):
        desk.add(job_id, [job_id], task_id=1)
    node_of = {given.match.job_id: given.node for given in desk.matched()}
    assert node_of[0] == node_of[1]
    assert node_of[2] == node_of[3] != node_of[0]


def test_a_new_job_is_held_while_its_node_is_busy_though_others_wait() -> None:
    desk = Desk(make_rules(locality_wait=timedelta(minutes=10)))
    desk.node(1, [1])
    waiting(desk, 2)
    desk.add(1, {1: 10 * GB})
    assert desk.matched() == []
    assert by_request(desk.matched(desk.request(1, name="of 1"))) == {"of 1": [1]}


@pytest.mark.parametrize("count", [1, 20, 300])
def test_a_new_job_finds_the_one_waiting_node_that_it_fits(count: int) -> None:
    desk = Desk()
    # The small ones are idler, and of the same class.
    small, large = Requirements(memory_bytes=2600), Requirements(memory_bytes=3000)
    requests = [desk.request(2 + n % 100, small, count=2) for n in range(count)]
    assert desk.matched(*requests, desk.request(1, large)) == []
    desk.add(1, requirements=Requirements(memory_bytes=4000))
    desk.add(2, requirements=Requirements(memory_bytes=2900))
    (given,) = desk.matched()
    assert (given.node, given.match.job_id) == (node_key(1), 2)


def test_a_new_job_finds_the_waiting_request_of_its_node_that_it_fits() -> None:
    desk = Desk()
    desk.node(1, [1])
    waiting(desk, 2)
    one, eight = Requirements(cores=1), Requirements(cores=8)
    assert desk.matched(desk.request(1, one), desk.request(1, eight, name="large")) == []
    desk.add(1, [1], requirements=eight)
    assert by_request(desk.matched()) == {"large": [1]}


def test_who_asks_at_once_is_matched_as_one_the_best_pair_first() -> None:
    desk = Desk()
    # Job 1 is the best for both nodes; it is worth more to node 2.
    desk.node(1, [1, 2])
    desk.node(2, [1, 3])
    desk.add(1, {1: GB, 3: GB, 4: GB})
    desk.add(2, {2: GB, 5: 5 * GB})
    given = desk.matched(desk.request(1, name="of 1"), desk.request(2, name="of 2"))
    assert by_request(given) == {"of 2": [1], "of 1": [2]}


def test_who_asks_first_does_not_take_what_another_holds() -> None:
    desk = Desk()
    for number in range(1, 6):
        desk.node(number, [number])
    for number in range(1, 6):
        desk.add(number, [number])
    requests = [desk.request(n, name=f"of {n}") for n in (5, 3, 1, 2, 4)]
    assert by_request(desk.matched(*requests)) == {f"of {n}": [n] for n in range(1, 6)}


def test_a_request_for_several_gets_its_own_and_then_others() -> None:
    desk = Desk()
    desk.node(1, [1, 2])
    desk.node(2, [3])
    for job_id in (3, 4, 1, 2):
        desk.add(job_id, [job_id])
    assert desk.ask(1, count=10) == [1, 2, 4, 3]


def test_a_request_for_several_is_answered_with_what_there_is() -> None:
    desk = Desk()
    desk.add(1)
    request = desk.request(1, count=3)
    assert by_request(desk.matched(request)) == {request.request_id: [1]}
    desk.add(2)
    assert desk.matched() == []


def test_a_waiting_request_for_several_gets_several_new_jobs_at_once() -> None:
    desk = Desk()
    request = desk.request(1, count=2)
    assert desk.matched(request) == []
    for job_id in (1, 2, 3):
        desk.add(job_id)
    assert by_request(desk.matched()) == {request.request_id: [1, 2]}
    assert desk.matched() == []


def test_a_waiting_request_that_is_withdrawn_gets_nothing() -> None:
    desk = Desk()
    waiting(desk, 1)
    desk.matchmaker.cancel(["of 1"])
    desk.add(1)
    assert desk.matched() == []


def test_a_request_may_be_withdrawn_before_it_was_looked_at() -> None:
    desk = Desk()
    desk.matchmaker.ask([desk.request(1, name="first"), desk.request(2, name="second")])
    desk.matchmaker.cancel(["first", "unheard of"])
    desk.add(1)
    assert by_request(desk.matched()) == {"second": [1]}


def test_a_request_that_is_made_again_counts_once() -> None:
    desk = Desk()
    waiting(desk, 1)
    desk.add(1)
    desk.add(2)
    assert by_request(desk.matched(desk.request(1, name="of 1"))) == {"of 1": [1]}


def test_a_job_that_many_want_spreads_to_idle_nodes() -> None:
    desk = Desk()
    desk.node(1, [1])
    waiting(desk, 1, 2, 3)
    for job_id in (1, 2, 3, 4):
        desk.add(job_id, [1])
    rules = {given.node: given.match.rule for given in desk.matched()}
    assert rules[node_key(1)] is MatchRule.LOCAL_BYTES
    assert rules[node_key(2)] is rules[node_key(3)] is MatchRule.SPREAD
