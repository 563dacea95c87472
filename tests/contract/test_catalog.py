"""What every catalog does, whatever it keeps its values in."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.catalog.lag import GRACE
from pandawn_server.domain.catalog.inventory import (
    NO_DRIFT,
    CachedFile,
    CacheState,
    Delta,
    DeltaOutcome,
    DeltaResult,
    Drift,
    FileRef,
    NodeKey,
)
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    adding,
    deleting,
    held,
    inventory,
    is_known,
    make_file,
    make_files,
    ref,
    state,
)

OTHER_EPOCH = EPOCH + 1
LATER = NOW + timedelta(minutes=5)


def outcome(catalog: Catalog, delta: Delta) -> DeltaOutcome:
    return catalog.apply([delta], NOW)[0]


def result(catalog: Catalog, delta: Delta) -> DeltaResult:
    return outcome(catalog, delta).result


# Deltas


def test_nothing_is_known_of_a_node_that_never_reported(catalog: Catalog) -> None:
    assert catalog.holdings([(NODE, [ref(make_file(1))])]) == [None]
    assert catalog.summaries([NODE]) == [None]
    assert catalog.list_files(NODE, None, 10) is None
    assert catalog.flush(NODE, EPOCH, NOW) is None
    assert catalog.touch([(NODE, CacheState(EPOCH, 0, 0))], NOW) == [True]
    assert not is_known(catalog)


def test_a_cache_is_known_from_its_first_change_on(catalog: Catalog) -> None:
    assert result(catalog, adding(1, *make_files(1, 2))) is DeltaResult.APPLIED

    assert held(catalog, make_files(1, 2, 3)) == [1001, 1002, None]
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.key == NODE
    assert summary.state == state(1, make_files(1, 2))
    assert (summary.file_count, summary.total_bytes) == (2, 2003)
    assert summary.update_time == NOW
    assert catalog.list_files(NODE, None, 10) == list(make_files(1, 2))


def test_a_repeated_delta_changes_nothing(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1)), deleting(2, ref(make_file(1)))], NOW)

    assert result(catalog, adding(1, make_file(1))) is DeltaResult.REPEATED
    assert outcome(catalog, deleting(2, ref(make_file(1)))) == DeltaOutcome(DeltaResult.REPEATED, 0)
    assert held(catalog, make_files(1)) == [None]


@pytest.mark.parametrize("sequence", [3, 4, 1000])
def test_a_delta_after_a_lost_one_is_not_applied(catalog: Catalog, sequence: int) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)

    assert result(catalog, adding(sequence, make_file(2))) is DeltaResult.INVENTORY_REQUESTED
    assert held(catalog, make_files(1, 2)) == [1001, None]


def test_a_delta_of_another_epoch_is_not_applied(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)

    late = adding(2, make_file(2), epoch=OTHER_EPOCH)
    assert result(catalog, late) is DeltaResult.INVENTORY_REQUESTED
    assert held(catalog, make_files(1, 2)) == [1001, None]


def test_the_first_delta_of_a_new_epoch_forgets_the_old_one(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2))], NOW)

    assert result(catalog, adding(1, make_file(3), epoch=OTHER_EPOCH)) is DeltaResult.APPLIED
    assert held(catalog, make_files(1, 2, 3)) == [None, None, 1003]
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.state == state(1, make_files(3), epoch=OTHER_EPOCH)


def test_an_unknown_cache_in_the_middle_of_its_epoch_is_asked_for_an_inventory(
    catalog: Catalog,
) -> None:
    assert result(catalog, adding(2, make_file(1))) is DeltaResult.INVENTORY_REQUESTED
    assert not is_known(catalog)


def test_deleting_counts_what_was_there(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2, 3))], NOW)

    absent = FileRef(lfn="never.seen")
    gone = deleting(2, ref(make_file(1)), absent, FileRef(guid=make_file(3).guid))
    assert outcome(catalog, gone) == DeltaOutcome(DeltaResult.APPLIED, 2)
    assert held(catalog, make_files(1, 2, 3)) == [None, 1002, None]


def test_a_file_both_deleted_and_added_is_held(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)
    again = make_file(1, size_bytes=7)

    replaced = Delta(NODE, EPOCH, 2, added=(again,), deleted=(ref(again),))
    assert outcome(catalog, replaced) == DeltaOutcome(DeltaResult.APPLIED, 1)
    assert held(catalog, [again]) == [7]
    assert catalog.touch([(NODE, state(2, [again]))], NOW) == [False]


@pytest.mark.parametrize(
    ("version", "size_bytes"),
    [(make_file(1).version, make_file(1).size_bytes), ("", 5)],
    ids=["known version", "unknown version"],
)
def test_adding_a_file_again_replaces_size_and_guid(
    catalog: Catalog, version: str, size_bytes: int
) -> None:
    before = replace(make_file(1), version=version)
    after = replace(before, size_bytes=size_bytes, guid="new-guid")
    catalog.apply([adding(1, before), adding(2, after)], NOW)

    by_guid = [FileRef(guid=before.guid), FileRef(guid="new-guid")]
    assert catalog.holdings([(NODE, by_guid)]) == [[None, size_bytes]]
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert (summary.file_count, summary.total_bytes) == (1, size_bytes)


def test_deltas_of_one_call_are_applied_in_order_and_answered_in_order(catalog: Catalog) -> None:
    neighbour = NodeKey(NODE.site, "wn02.example.org")
    outcomes = catalog.apply(
        [
            adding(1, *make_files(1, 2)),
            adding(1, make_file(1), key=neighbour),
            deleting(2, FileRef(guid=make_file(2).guid)),
            adding(2, make_file(2)),
            deleting(2, ref(make_file(1)), key=neighbour),
            adding(5, make_file(9), key=neighbour),
        ],
        NOW,
    )
    assert [o.result for o in outcomes] == [
        DeltaResult.APPLIED,
        DeltaResult.APPLIED,
        DeltaResult.APPLIED,
        DeltaResult.REPEATED,
        DeltaResult.APPLIED,
        DeltaResult.INVENTORY_REQUESTED,
    ]
    assert [o.deleted_count for o in outcomes] == [0, 0, 1, 0, 1, 0]
    assert held(catalog, make_files(1, 2)) == [1001, None]
    assert held(catalog, make_files(1, 9), key=neighbour) == [None, None]


def test_a_guid_that_a_file_no_longer_has_does_not_delete_it(catalog: Catalog) -> None:
    def named(guid: str) -> CachedFile:
        return CachedFile("data", 5, guid=guid)

    catalog.apply([adding(1, named("first"))], NOW)
    # All in one call, so that none of it is written before the other.
    outcomes = catalog.apply(
        [
            adding(2, named("second")),
            deleting(3, FileRef(guid="first")),
            adding(4, named("third")),
            deleting(5, FileRef(guid="second")),
        ],
        NOW,
    )
    assert [outcome.deleted_count for outcome in outcomes] == [0, 0, 0, 0]
    assert catalog.list_files(NODE, None, 10) == [named("third")]
    assert outcome(catalog, deleting(6, FileRef(guid="third"))).deleted_count == 1


def test_an_empty_call_does_nothing(catalog: Catalog) -> None:
    assert catalog.apply([], NOW) == []
    assert catalog.touch([], NOW) == []
    assert catalog.holdings([]) == []
    assert catalog.summaries([]) == []


# Direct changes


def test_direct_population_makes_a_node_known_under_an_epoch_of_the_catalog(
    catalog: Catalog,
) -> None:
    assert result(catalog, adding(0, make_file(1), epoch=0)) is DeltaResult.APPLIED

    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.state.epoch != 0
    assert summary.state.sequence == 0
    assert held(catalog, make_files(1)) == [1001]


def test_direct_changes_leave_epoch_and_sequence_as_they_are(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)
    catalog.apply([adding(0, make_file(2), epoch=0)], NOW)
    gone = outcome(catalog, deleting(0, ref(make_file(1)), epoch=0))

    assert gone == DeltaOutcome(DeltaResult.APPLIED, 1)
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.state == state(1, make_files(2))
    assert result(catalog, adding(2, make_file(3))) is DeltaResult.APPLIED
    assert held(catalog, make_files(1, 2, 3)) == [None, 1002, 1003]


def test_a_live_cache_has_the_last_word_over_direct_changes(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1)), adding(0, make_file(2), epoch=0)], NOW)

    assert catalog.touch([(NODE, state(1, make_files(1)))], NOW) == [True]
    assert catalog.replace(inventory(1, make_files(1)), NOW) == Drift(1, 1002)
    assert held(catalog, make_files(1, 2)) == [1001, None]


def test_deleting_directly_from_an_unknown_node_leaves_it_unknown(catalog: Catalog) -> None:
    gone = outcome(catalog, deleting(0, ref(make_file(1)), epoch=0))
    assert gone == DeltaOutcome(DeltaResult.APPLIED, 0)
    assert not is_known(catalog)


# Inventories and epochs


def test_an_inventory_replaces_everything_and_tells_the_drift(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2, 3))], NOW)
    grown = make_file(3, size_bytes=50)

    # 1 was wrongly there, 4 wrongly not, and of 3 another one.
    drift = catalog.replace(inventory(9, [make_file(2), grown, make_file(4)]), LATER)
    assert drift == Drift(files=4, size_bytes=1001 + 1004 + 1003 + 50)
    assert held(catalog, [*make_files(1, 2, 4), grown]) == [None, 1002, 1004, 50]
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.state == state(9, [make_file(2), grown, make_file(4)])
    assert summary.update_time == LATER


def test_an_inventory_that_confirms_what_is_known_has_no_drift(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2))], NOW)
    assert catalog.replace(inventory(1, make_files(2, 1)), NOW) == NO_DRIFT


def test_the_inventory_of_an_unknown_node_has_no_drift(catalog: Catalog) -> None:
    assert catalog.replace(inventory(3, make_files(1, 2)), NOW) == NO_DRIFT
    assert held(catalog, make_files(1, 2)) == [1001, 1002]


def test_an_empty_inventory_makes_a_node_known_and_empty(catalog: Catalog) -> None:
    catalog.replace(inventory(0, []), NOW)
    assert is_known(catalog)
    assert held(catalog, make_files(1)) == [None]
    assert catalog.list_files(NODE, None, 10) == []


def test_deltas_go_on_after_an_inventory(catalog: Catalog) -> None:
    catalog.replace(inventory(41, make_files(1)), NOW)
    assert result(catalog, adding(41, make_file(2))) is DeltaResult.REPEATED
    assert result(catalog, adding(42, make_file(2))) is DeltaResult.APPLIED
    assert held(catalog, make_files(1, 2)) == [1001, 1002]


def test_a_file_listed_twice_in_an_inventory_is_held_once(catalog: Catalog) -> None:
    unknown = replace(make_file(2), version="")
    files = [make_file(1), make_file(1), unknown, replace(unknown, size_bytes=6)]
    catalog.replace(inventory(1, files), NOW)
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert (summary.file_count, summary.total_bytes) == (2, 1001 + 6)


def test_a_flush_forgets_all_files_and_begins_an_epoch(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2))], NOW)

    assert catalog.flush(NODE, OTHER_EPOCH, NOW) == 2
    assert held(catalog, make_files(1, 2)) == [None, None]
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.state == CacheState(OTHER_EPOCH, 0, 0)
    assert result(catalog, adding(2, make_file(3))) is DeltaResult.INVENTORY_REQUESTED
    assert result(catalog, adding(1, make_file(3), epoch=OTHER_EPOCH)) is DeltaResult.APPLIED


def test_a_repeated_flush_keeps_what_came_after_it(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)
    catalog.flush(NODE, OTHER_EPOCH, NOW)
    catalog.apply([adding(1, make_file(2), epoch=OTHER_EPOCH)], NOW)

    assert catalog.flush(NODE, OTHER_EPOCH, NOW) == 0
    assert held(catalog, make_files(1, 2)) == [None, 1002]


# Agreement between caches and catalog


def test_no_inventory_is_needed_while_digests_agree(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2))], NOW)
    assert catalog.touch([(NODE, state(1, make_files(1, 2)))], NOW) == [False]


def test_an_inventory_is_needed_at_once_when_digests_differ(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2))], NOW)
    assert catalog.touch([(NODE, state(1, make_files(1)))], NOW) == [True]


def test_an_inventory_is_needed_at_once_in_another_epoch(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)
    assert catalog.touch([(NODE, state(1, make_files(1), epoch=OTHER_EPOCH))], NOW) == [True]


@pytest.mark.parametrize("told", [1, 3], ids=["behind", "ahead"])
def test_a_lag_is_granted_some_time_and_then_healed(catalog: Catalog, told: int) -> None:
    catalog.replace(inventory(2, make_files(1)), NOW)
    told_state = state(told, make_files(1, 2))

    assert catalog.touch([(NODE, told_state)], NOW) == [False]
    assert catalog.touch([(NODE, told_state)], NOW + GRACE - timedelta(seconds=1)) == [False]
    assert catalog.touch([(NODE, told_state)], NOW + GRACE) == [True]
    catalog.replace(inventory(told, make_files(1, 2)), NOW + GRACE)
    assert catalog.touch([(NODE, told_state)], NOW + GRACE) == [False]


def test_a_lag_that_was_made_up_for_is_forgotten(catalog: Catalog) -> None:
    catalog.replace(inventory(2, make_files(1)), NOW)
    late, current = state(1, []), state(2, make_files(1))

    # A heartbeat that was long on its way, and a day later another one.
    assert catalog.touch([(NODE, late)], NOW) == [False]
    assert catalog.touch([(NODE, current)], NOW) == [False]
    assert catalog.touch([(NODE, late)], NOW + timedelta(days=1)) == [False]


def test_a_lag_begins_anew_with_each_delta_that_arrives(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)
    far_ahead = state(9, make_files(1, 2, 3))

    assert catalog.touch([(NODE, far_ahead)], NOW) == [False]
    catalog.apply([adding(2, make_file(2))], NOW)
    assert catalog.touch([(NODE, far_ahead)], NOW + GRACE) == [False]
    assert catalog.touch([(NODE, far_ahead)], NOW + 2 * GRACE) == [True]
