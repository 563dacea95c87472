"""What every catalog answers: order, names, sizes, and several servers on one store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    Delta,
    DeltaOutcome,
    DeltaResult,
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
from tests.fixtures.versions import SHA256


def result(catalog: Catalog, delta: Delta) -> DeltaResult:
    return catalog.apply([delta], NOW)[0].result


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
        after = page[-1].file_id
    assert [file for page in pages for file in page] == files
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 1]


def test_a_page_may_begin_after_a_file_that_is_gone(catalog: Catalog) -> None:
    catalog.apply([adding(1, *make_files(1, 2, 3)), deleting(2, ref(make_file(2)))], NOW)
    after = make_file(2).file_id
    assert catalog.list_files(NODE, after, 10) == [make_file(3)]


def test_versions_of_a_name_are_files_of_their_own(catalog: Catalog) -> None:
    old, new = replace(make_file(1), version="site"), make_file(1)
    any_version = FileRef(new.lfn, new.scope)
    catalog.apply([adding(1, old)], NOW)
    assert catalog.holdings([(NODE, [ref(old), ref(new), any_version])]) == [[1001, None, 1001]]

    catalog.apply([adding(2, new)], NOW)
    assert catalog.list_files(NODE, None, 9) == [new, old]
    assert catalog.apply([deleting(3, ref(old))], NOW)[0].deleted_count == 1
    assert catalog.list_files(NODE, None, 9) == [new]
    assert catalog.touch([(NODE, state(3, [new]))], NOW) == [False]


def test_without_a_version_all_files_of_a_name_are_meant(catalog: Catalog) -> None:
    files = [replace(make_file(1), version=version) for version in ("", "site", SHA256)]
    catalog.apply([adding(1, *files, make_file(2))], NOW)

    outcome = catalog.apply([deleting(2, FileRef(files[0].lfn, files[0].scope))], NOW)[0]
    assert outcome.deleted_count == 3
    assert catalog.list_files(NODE, None, 9) == [make_file(2)]


def test_of_files_of_unknown_version_a_name_has_the_last_one(catalog: Catalog) -> None:
    first, second = (replace(make_file(1), version="", size_bytes=size) for size in (5, 7))
    catalog.apply([adding(1, first, make_file(1))], NOW)
    catalog.apply([adding(2, second)], NOW)

    assert catalog.list_files(NODE, None, 9) == [second, make_file(1)]
    assert catalog.touch([(NODE, state(2, [second, make_file(1)]))], NOW) == [False]


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
        after = page[-1].file_id
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
    catalogs.one.flush(NODE, EPOCH + 1, NOW)
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
