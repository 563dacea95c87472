"""What the matchmaker believes of caches: inventories, changes, gaps, epochs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.catalog.inventory import DeltaResult, NodeKey
from pandawn_server.domain.dispatch.values import Limits
from pandawn_server.domain.leases.attempts import Locality
from tests.fixtures.dispatch import GB, Desk, assert_empty, audit
from tests.fixtures.factories import make_rules, node_key


def held(desk: Desk, *files: int) -> dict[NodeKey, int]:
    """How many of the files each node holds, as a waiting job is told."""
    desk.matchmaker.remove([10**6])
    desk.add(10**6, files, priority=-(10**6))
    standing = desk.matchmaker.standing(10**6, desk.time)
    assert standing is not None
    audit(desk.matchmaker)
    return {node: local // GB for node, local in standing.shares}


def test_an_inventory_takes_the_place_of_the_one_before() -> None:
    desk = Desk()
    key = desk.node(1, [1, 2])
    desk.node(1, [2, 3])
    assert held(desk, 1) == {}
    assert held(desk, 2, 3) == {key: 2}


def test_the_same_inventory_again_changes_nothing() -> None:
    desk = Desk()
    key = desk.node(1, [1, 2])
    desk.node(1, [1, 2])
    assert held(desk, 1, 2, 3) == {key: 2}


def test_an_empty_inventory_is_one() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.node(1, [])
    assert held(desk, 1) == {}
    desk.matchmaker.remove([10**6])
    desk.add(1, [1])
    assert desk.only_match(1).locality is Locality.KNOWN


def test_a_change_adds_and_deletes() -> None:
    desk = Desk()
    key = desk.node(1, [1, 2])
    assert desk.matchmaker.change(key, 1, 2, added=[3], deleted=[1]) is DeltaResult.APPLIED
    assert held(desk, 1) == {}
    assert held(desk, 2, 3) == {key: 2}


def test_a_file_that_a_change_deletes_and_adds_is_held_afterwards() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    desk.matchmaker.change(key, 1, 2, added=[1, 2], deleted=[1, 2])
    assert held(desk, 1, 2) == {key: 2}


def test_a_repeated_change_is_not_applied_twice() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    desk.matchmaker.change(key, 1, 2, added=[2])
    desk.matchmaker.change(key, 1, 3, deleted=[2])
    assert desk.matchmaker.change(key, 1, 2, added=[2]) is DeltaResult.REPEATED
    assert held(desk, 2) == {}


def test_a_change_after_a_gap_is_not_applied_but_asks_for_an_inventory() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    assert desk.matchmaker.change(key, 1, 3, added=[2]) is DeltaResult.INVENTORY_REQUESTED
    assert held(desk, 1, 2) == {key: 1}


def test_a_new_epoch_begins_empty_with_its_first_change() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    assert desk.matchmaker.change(key, 2, 1, added=[2]) is DeltaResult.APPLIED
    assert held(desk, 1) == {}
    assert held(desk, 2) == {key: 1}


def test_a_new_epoch_seen_late_asks_for_an_inventory() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    assert desk.matchmaker.change(key, 2, 2, added=[2]) is DeltaResult.INVENTORY_REQUESTED
    assert held(desk, 1, 2) == {key: 1}


def test_the_first_change_of_an_unknown_cache_is_applied() -> None:
    desk = Desk()
    key = node_key(1)
    desk.matchmaker.set_live(key, live=True)
    assert desk.matchmaker.change(key, 7, 1, added=[1]) is DeltaResult.APPLIED
    assert held(desk, 1) == {key: 1}


def test_a_direct_change_is_always_applied() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    assert desk.matchmaker.change(key, 0, 0, added=[2]) is DeltaResult.APPLIED
    assert desk.matchmaker.change(key, 0, 0, deleted=[1]) is DeltaResult.APPLIED
    assert held(desk, 1, 2) == {key: 1}
    # The sequence of the cache itself goes on.
    assert desk.matchmaker.change(key, 1, 2, added=[3]) is DeltaResult.APPLIED


def test_a_forgotten_cache_holds_nothing_and_is_not_known() -> None:
    desk = Desk()
    key = desk.node(1, [1])
    desk.matchmaker.forget(key)
    assert held(desk, 1) == {}
    desk.matchmaker.remove([10**6])
    desk.add(1, [1])
    assert desk.only_match(1).locality is Locality.UNKNOWN
    assert desk.matchmaker.change(key, 1, 2, added=[2]) is DeltaResult.INVENTORY_REQUESTED


def test_to_forget_an_unknown_node_does_nothing() -> None:
    desk = Desk()
    desk.matchmaker.forget(node_key(1))
    assert_empty(desk.matchmaker)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nothing_is_kept_of_a_node_that_is_gone(order: tuple[int, int]) -> None:
    desk = Desk()
    key = desk.node(1, [1])
    desk.add(1, [1, 2])
    desk.ask(1)
    leave = [
        lambda: desk.matchmaker.set_live(key, live=False),
        lambda: desk.matchmaker.forget(key),
    ]
    for number in order:
        leave[number]()
    assert len(desk.matchmaker._state.holdings) == 0
    desk.now = 3600
    assert desk.matched() == []
    assert_empty(desk.matchmaker)


def test_a_node_that_was_gone_comes_back_as_a_new_one() -> None:
    desk = Desk(make_rules(locality_wait=timedelta(minutes=10)))
    key = desk.node(1, [1])
    for job_id in (1, 2):
        desk.add(job_id, [1, 2])
    assert desk.ask(1) == [1]
    desk.matchmaker.forget(key)
    desk.matchmaker.set_live(key, live=False)
    assert held(desk, 1, 2) == {}
    desk.node(1, [1])
    assert held(desk, 1, 2) == {key: 1}
    # What was sent to the old one says nothing of the new one.
    desk.matchmaker.lost([1])
    assert held(desk, 1, 2) == {key: 1}
    assert desk.ask(1) == [2]


def test_a_request_of_a_node_whose_pilots_are_said_to_be_gone_is_answered() -> None:
    desk = Desk()
    desk.matchmaker.ask([desk.request(1, name="late")])
    desk.matchmaker.set_live(node_key(1), live=False)
    desk.add(1, [1])
    assert [given.request_id for given in desk.matched()] == ["late"]
    audit(desk.matchmaker)


def test_what_a_node_without_pilots_holds_counts_when_one_comes() -> None:
    desk = Desk()
    key = desk.node(1, [1], live=False)
    assert held(desk, 1) == {}
    desk.matchmaker.remove([10**6])
    desk.add(1, [2])
    desk.add(2, [1])
    # A request makes its node live.
    assert desk.ask(1) == [2]
    assert held(desk, 1) == {key: 1}


def test_files_given_back_are_not_on_their_way() -> None:
    desk = Desk()
    key = desk.node(1)
    desk.add(1, [1])
    desk.ask(1)
    assert held(desk, 1) == {key: 1}
    desk.matchmaker.lost([1])
    assert held(desk, 1) == {}


def test_a_file_that_came_stays_when_the_job_for_which_it_came_is_lost() -> None:
    desk = Desk()
    key = desk.node(1)
    desk.add(1, [1])
    desk.ask(1)
    desk.matchmaker.change(key, 1, 2, added=[1])
    desk.matchmaker.lost([1])
    assert held(desk, 1) == {key: 1}


def test_an_inventory_without_a_file_on_its_way_leaves_it_on_its_way() -> None:
    desk = Desk()
    key = desk.node(1)
    desk.add(1, [1])
    desk.ask(1)
    desk.node(1, [2])
    assert held(desk, 1, 2) == {key: 2}


def test_of_a_too_large_inventory_the_first_files_count() -> None:
    desk = Desk(limits=Limits(files_per_node=2))
    key = desk.node(1, [3, 1, 2])
    assert held(desk, 1, 3) == {key: 2}
    assert held(desk, 2) == {}
    desk.matchmaker.change(key, 1, 2, added=[2])
    assert held(desk, 2) == {}
    desk.matchmaker.change(key, 1, 3, added=[2], deleted=[3])
    assert held(desk, 1, 2) == {key: 2}


def test_a_file_may_come_to_thousands_of_nodes_and_leave_them() -> None:
    desk = Desk()
    keys = [desk.node(number, [1, number]) for number in range(100, 300)]
    # On so many nodes it says nothing.
    assert held(desk, 1, 100) == {keys[0]: 1}
    for key in keys[:140]:
        desk.matchmaker.change(key, 1, 2, deleted=[1])
    told = held(desk, 1)
    assert len(told) == 10
    assert told.keys() <= set(keys[140:])
    for key in keys[140:]:
        desk.matchmaker.change(key, 1, 2, deleted=[1])
    assert held(desk, 1) == {}
