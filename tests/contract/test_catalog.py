"""What every catalog does, whatever it keeps its values in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from pandawn_server.catalog.lag import GRACE
from pandawn_server.catalog.protocol import Catalog
from pandawn_server.domain.inventory import (
    NO_DRIFT,
    CachedFile,
    CacheState,
    Delta,
    DeltaOutcome,
    DeltaResult,
    Drift,
    FileRef,
    NodeKey,
    inventory_digest,
)
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    Catalogs,
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


def test_adding_a_file_again_replaces_size_and_guid(catalog: Catalog) -> None:
    before, after = make_file(1), CachedFile(make_file(1).lfn, 5, make_file(1).scope, "new-guid")
    catalog.apply([adding(1, before), adding(2, after)], NOW)

    by_guid = [FileRef(guid=before.guid), FileRef(guid="new-guid")]
    assert catalog.holdings([(NODE, by_guid)]) == [[None, 5]]
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert (summary.file_count, summary.total_bytes) == (1, 5)


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

    # 1 was wrongly there, 4 wrongly not, 3 with another size.
    drift = catalog.replace(inventory(9, [make_file(2), grown, make_file(4)]), LATER)
    assert drift == Drift(files=3, size_bytes=1001 + 1004 + 50)
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
    catalog.replace(inventory(1, [make_file(1), make_file(1, size_bytes=6)]), NOW)
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert (summary.file_count, summary.total_bytes) == (1, 6)


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


def test_a_lag_begins_anew_with_each_delta_that_arrives(catalog: Catalog) -> None:
    catalog.apply([adding(1, make_file(1))], NOW)
    far_ahead = state(9, make_files(1, 2, 3))

    assert catalog.touch([(NODE, far_ahead)], NOW) == [False]
    catalog.apply([adding(2, make_file(2))], NOW)
    assert catalog.touch([(NODE, far_ahead)], NOW + GRACE) == [False]
    assert catalog.touch([(NODE, far_ahead)], NOW + 2 * GRACE) == [True]


# Asking


def test_answers_come_in_the_order_of_the_question(catalog: Catalog) -> None:
    neighbour = NodeKey(NODE.site, "wn02.example.org")
    stranger = NodeKey(NODE.site, "wn99.example.org")
    catalog.apply([adding(1, *make_files(1, 2)), adding(1, make_file(3), key=neighbour)], NOW)

    one, two, three = make_files(1, 2, 3)
    assert catalog.holdings(
        [
            (neighbour, [ref(one), ref(three), ref(three)]),
            (stranger, [ref(one)]),
            (NODE, [FileRef(guid=two.guid), ref(three), ref(one)]),
            (NODE, []),
            (NODE, [FileRef(guid="no-such")]),
        ]
    ) == [[None, 1003, 1003], None, [1002, None, 1001], [], [None]]
    summaries = catalog.summaries([stranger, neighbour, NODE])
    assert [s.file_count if s else None for s in summaries] == [None, 1, 2]


@pytest.mark.parametrize("count", [1, 40, 3000])
def test_one_list_of_files_may_be_asked_of_many_nodes(catalog: Catalog, count: int) -> None:
    nodes = [NodeKey(NODE.site, f"wn{number:02d}") for number in range(5)]
    for number, key in enumerate(nodes):
        files = [make_file(n) for n in range(0, 400, number + 1)]
        catalog.replace(inventory(1, files, key=key), NOW)

    refs = [ref(make_file(number % 500)) for number in range(count)]
    answers = catalog.holdings([(key, refs) for key in nodes])
    for number, answer in enumerate(answers):
        assert answer == [
            1000 + n if n < 400 and n % (number + 1) == 0 else None
            for n in (n % 500 for n in range(count))
        ]


def test_scope_is_part_of_the_name(catalog: Catalog) -> None:
    here, there = CachedFile("data", 1, "user.anna"), CachedFile("data", 2, "user.ben")
    catalog.apply([adding(1, here, there)], NOW)

    refs = [FileRef("data", "user.anna"), FileRef("data", "user.ben"), FileRef("data")]
    assert catalog.holdings([(NODE, refs)]) == [[1, 2, None]]
    catalog.apply([deleting(2, refs[0])], NOW)
    assert catalog.holdings([(NODE, refs)]) == [[None, 2, None]]


def test_a_listing_pages_in_order_of_scope_and_lfn(catalog: Catalog) -> None:
    files = [CachedFile(f"f{n}", n, scope) for scope in ("", "a", "b") for n in range(7)]
    catalog.apply([adding(1, *reversed(files))], NOW)

    pages, after = [], None
    while page := catalog.list_files(NODE, after, 4):
        pages.append(page)
        after = (page[-1].scope, page[-1].lfn)
    assert [file for page in pages for file in page] == files
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 1]


def test_a_page_may_begin_after_a_file_that_is_gone(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2, 3)), deleting(2, ref(make_file(2)))], NOW)
    after = (make_file(2).scope, make_file(2).lfn)
    assert catalog.list_files(NODE, after, 10) == [make_file(3)]


# Names

LONG = "n" * 300
AWKWARD_NAMES = [
    "with space",
    "new\nline",
    "get x\r\nflush_all\r\n",
    "nul\0byte",
    "\x7f\x1b[31m",
    "żółć-データ-🦣",
    LONG,
    "ü" * 255,
    "a/../b",
    "%s{}",
]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_awkward_names_are_names_like_others(catalogs: Catalogs, name: str) -> None:
    key = NodeKey(name, name)
    file = CachedFile(name, 5, name, name)
    catalogs.one.apply([adding(1, file, key=key)], NOW)
    catalogs.one.apply([adding(1, make_file(1))], NOW)

    refs = [FileRef(name, name), FileRef(guid=name), FileRef(name)]
    assert catalogs.other.holdings([(key, refs), (NODE, refs)]) == [[5, 5, None], [None] * 3]
    assert catalogs.other.list_files(key, None, 10) == [file]
    assert catalogs.other.touch([(key, state(1, [file]))], NOW) == [False]


SPLITS = [
    (("ab", "c"), ("a", "bc")),
    (("a_b", "c"), ("a", "b_c")),
    (("a", ""), ("", "a")),
    (("a\0b", "c"), ("a", "b\0c")),
    (("1", "0x"), ("10", "x")),
    ((LONG, "x"), (LONG + "x", "")),
    (("a", "b"), ("a", "b ")),
]


@pytest.mark.parametrize(("left", "right"), SPLITS)
def test_names_that_look_the_same_when_joined_are_kept_apart(
    catalog: Catalog, left: tuple[str, str], right: tuple[str, str]
) -> None:
    catalog.apply([adding(1, make_file(1), key=NodeKey(*left))], NOW)
    assert not is_known(catalog, NodeKey(*right))

    catalog.apply([adding(1, CachedFile(left[1], 5, left[0]))], NOW)
    refs = [FileRef(scope=left[0], lfn=left[1]), FileRef(scope=right[0], lfn=right[1])]
    asked = [one for one in refs if one.lfn]
    expected = [5 if one is refs[0] else None for one in asked]
    assert catalog.holdings([(NODE, asked)]) == [expected]


# Size


def test_an_inventory_larger_than_one_value_is_whole_and_stays_current(catalogs: Catalogs) -> None:
    padding = "x" * 150
    files = [CachedFile(f"{n:06d}.{padding}", n, "scope", f"guid-{n}") for n in range(20_000)]
    catalogs.one.replace(inventory(7, files), NOW)

    listed, after = [], None
    while page := catalogs.other.list_files(NODE, after, 5000):
        listed += page
        after = (page[-1].scope, page[-1].lfn)
    assert listed == files
    assert held(catalogs.other, files[::97]) == list(range(0, 20_000, 97))

    gone, extra = files[11], make_file(1)
    change = Delta(NODE, EPOCH, 8, added=(extra,), deleted=(FileRef(guid=gone.guid),))
    assert catalogs.other.apply([change], NOW) == [DeltaOutcome(DeltaResult.APPLIED, 1)]
    left = [file for file in files if file is not gone]
    assert held(catalogs.one, [gone, extra, files[12]]) == [None, 1001, 12]
    assert catalogs.one.touch([(NODE, state(8, [*left, extra]))], NOW) == [False]


def test_many_small_deltas_add_up(catalogs: Catalogs) -> None:
    here: dict[int, CachedFile] = {}
    for sequence in range(1, 1201):
        come, go = make_file(sequence % 400), make_file(sequence * 7 % 400)
        delta = Delta(NODE, EPOCH, sequence, added=(come,), deleted=(ref(go),))
        here.pop(sequence * 7 % 400, None)
        here[sequence % 400] = come
        writer = catalogs.one if sequence % 3 else catalogs.other
        assert result(writer, delta) is DeltaResult.APPLIED

    files = [here[number] for number in sorted(here)]
    for catalog in (catalogs.one, catalogs.other):
        assert catalog.list_files(NODE, None, 1000) == files
        summary = catalog.summaries([NODE])[0]
        assert summary is not None
        assert summary.state.digest == inventory_digest(files)
        assert (summary.file_count, summary.total_bytes) == (
            len(files),
            sum(file.size_bytes for file in files),
        )


def test_sizes_up_to_the_largest_number_are_kept_exactly(catalog: Catalog) -> None:
    largest = 2**63 - 1
    files = [CachedFile(f"f{n}", largest) for n in range(5)]
    catalog.apply([adding(1, *files)], NOW)

    assert held(catalog, files) == [largest] * 5
    summary = catalog.summaries([NODE])[0]
    assert summary is not None
    assert summary.total_bytes == 5 * largest


# Several servers


def test_what_one_server_writes_the_other_reads(catalogs: Catalogs) -> None:
    catalogs.one.apply([adding(1, make_file(1))], NOW)
    assert held(catalogs.other, make_files(1, 2)) == [1001, None]
    catalogs.other.apply([adding(2, make_file(2))], NOW)
    assert held(catalogs.one, make_files(1, 2)) == [1001, 1002]
    catalogs.one.flush(NODE, OTHER_EPOCH, NOW)
    assert held(catalogs.other, make_files(1, 2)) == [None, None]
    catalogs.other.replace(inventory(1, make_files(3)), NOW)
    assert held(catalogs.one, make_files(1, 3)) == [None, 1003]


def test_writers_of_one_node_lose_nothing_to_each_other(catalogs: Catalogs) -> None:
    def write(number: int) -> None:
        catalog = catalogs.one if number % 2 else catalogs.other
        for step in range(10):
            catalog.apply([adding(0, make_file(100 * number + step), epoch=0)], NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    files = [make_file(100 * number + step) for number in range(4) for step in range(10)]
    assert catalogs.one.list_files(NODE, None, 100) == files
    summary = catalogs.other.summaries([NODE])[0]
    assert summary is not None
    assert summary.state.digest == inventory_digest(files)


def test_a_delta_sent_to_two_servers_at_once_is_applied_once(catalogs: Catalogs) -> None:
    catalogs.one.apply([adding(1, make_file(0))], NOW)
    for sequence in range(2, 12):
        delta = adding(sequence, make_file(sequence))
        with ThreadPoolExecutor(2) as pool:
            both = [catalogs.one, catalogs.other]
            results = list(pool.map(result, both, [delta, delta]))
        assert sorted(r.value for r in results) == ["applied", "repeated"]
