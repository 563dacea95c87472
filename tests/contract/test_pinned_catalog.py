"""What is pinned on nodes counts as held, whatever their caches report, on each kind of store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.catalog.contents import Version
from pandawn_server.catalog.pins import PinnedFiles
from pandawn_server.domain.catalog.inventory import CachedFile, CacheState, FileRef, NodeKey
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    adding,
    held,
    inventory,
    make_file,
    make_files,
    ref,
    sizes_by_key,
    state,
    told_sizes,
)

BARE = NodeKey(NODE.site, "wn02.example.org")
FIRST, SECOND = 11, 22


class Pinning:
    """A catalog with a book of pins to write into."""

    def __init__(self, caches: Catalog) -> None:
        self.catalog, self.book = caches, caches.pins

    def pin(self, key: NodeKey, version: int, files: Sequence[CachedFile]) -> None:
        pinned = PinnedFiles.of(version, files, NOW)
        self.book.replace({**self.book.nodes, key: pinned})

    def unpin_all(self) -> None:
        self.book.replace({})

    def told(self, key: NodeKey, known: Version | None) -> tuple[Version, dict[int, int] | None]:
        contents = self.catalog.contents([(key, known)])[0]
        assert contents is not None
        files = contents.files
        assert (contents.epoch, contents.sequence) == contents.version[1:3]
        return contents.version, None if files is None else told_sizes(files)


@pytest.fixture
def pinning(catalog: Catalog) -> Pinning:
    return Pinning(catalog)


def test_pinned_and_cached_files_are_held(pinning: Pinning) -> None:
    catalog = pinning.catalog
    catalog.apply([adding(1, make_file(1))], NOW)
    pinning.pin(NODE, FIRST, make_files(2))

    assert held(catalog, make_files(1, 2, 3)) == [1001, 1002, None]
    by_guid = [FileRef(guid=make_file(n).guid) for n in (1, 2, 3)]
    assert catalog.holdings([(NODE, by_guid), (BARE, by_guid)]) == [[1001, 1002, None], None]


def test_inventories_and_flushes_do_not_touch_pins(pinning: Pinning) -> None:
    catalog = pinning.catalog
    catalog.apply([adding(1, make_file(1))], NOW)
    pinning.pin(NODE, FIRST, make_files(2))

    catalog.replace(inventory(5, make_files(3)), NOW)
    assert held(catalog, make_files(1, 2, 3)) == [None, 1002, 1003]
    catalog.flush(NODE, EPOCH + 1, NOW)
    assert held(catalog, make_files(1, 2, 3)) == [None, 1002, None]


def test_pins_are_no_drift_and_do_not_make_digests_differ(pinning: Pinning) -> None:
    catalog = pinning.catalog
    catalog.replace(inventory(1, make_files(1)), NOW)
    pinning.pin(NODE, FIRST, make_files(2))

    assert catalog.touch([(NODE, state(1, make_files(1)))], NOW) == [False]
    assert catalog.replace(inventory(1, make_files(1)), NOW).files == 0


def test_a_pinned_file_that_the_cache_holds_too_is_one_file(pinning: Pinning) -> None:
    pinning.catalog.apply([adding(1, *make_files(1, 2))], NOW)
    pinning.pin(NODE, FIRST, make_files(1))

    assert pinning.told(NODE, None)[1] == sizes_by_key(make_files(1, 2))


@pytest.mark.parametrize(
    "other", [{"size_bytes": 5}, {"version": "sha256:" + "f" * 64}, {"version": ""}]
)
def test_another_size_or_version_that_is_pinned_is_another_file(
    pinning: Pinning, other: dict[str, Any]
) -> None:
    pinned = replace(make_file(1), **other)
    pinning.catalog.apply([adding(1, make_file(1))], NOW)
    pinning.pin(NODE, FIRST, [pinned])

    assert pinning.told(NODE, None)[1] == sizes_by_key([make_file(1), pinned])
    any_version = FileRef(pinned.lfn, pinned.scope)
    assert pinning.catalog.holdings([(NODE, [ref(make_file(1)), any_version])]) == [[1001, 1001]]


def test_a_node_of_which_only_pins_are_known_holds_them(pinning: Pinning) -> None:
    catalog = pinning.catalog
    pinning.pin(BARE, FIRST, make_files(1, 2))

    assert held(catalog, make_files(1, 3), key=BARE) == [1001, None]
    assert pinning.told(BARE, None)[1] == sizes_by_key(make_files(1, 2))
    summary = catalog.summaries([BARE])[0]
    assert summary is not None
    assert (summary.state, summary.file_count) == (CacheState(0, 0, 0), 0)
    assert (summary.pinned_count, summary.pinned_bytes) == (2, 2003)
    # Its cache is asked for an inventory all the same.
    assert catalog.touch([(BARE, state(1, []))], NOW) == [True]


def test_a_summary_counts_pins_beside_what_the_cache_reports(pinning: Pinning) -> None:
    pinning.catalog.apply([adding(1, *make_files(1, 2))], NOW)
    pinning.pin(NODE, FIRST, make_files(2, 3))

    summary = pinning.catalog.summaries([NODE])[0]
    assert summary is not None
    assert (summary.file_count, summary.total_bytes) == (2, 2003)
    assert (summary.pinned_count, summary.pinned_bytes) == (2, 2005)


@pytest.mark.parametrize("cached", [True, False], ids=["with cache", "pins only"])
def test_contents_are_told_again_when_pins_change_and_not_otherwise(
    pinning: Pinning, *, cached: bool
) -> None:
    files = make_files(1) if cached else ()
    if cached:
        pinning.catalog.apply([adding(1, *files)], NOW)
    pinning.pin(NODE, FIRST, make_files(2))

    version, told = pinning.told(NODE, None)
    assert told == sizes_by_key([*files, make_file(2)])
    assert pinning.told(NODE, version) == (version, None)
    pinning.pin(NODE, SECOND, make_files(2, 3))
    second, told = pinning.told(NODE, version)
    assert told == sizes_by_key([*files, *make_files(2, 3)])
    assert pinning.told(NODE, second) == (second, None)
    pinning.unpin_all()
    if cached:
        assert pinning.told(NODE, second)[1] == sizes_by_key(files)
    else:
        assert pinning.catalog.contents([(NODE, second)]) == [None]


def test_contents_are_told_again_when_the_cache_of_a_node_with_pins_changes(
    pinning: Pinning,
) -> None:
    pinning.pin(NODE, FIRST, make_files(2))
    version, _ = pinning.told(NODE, None)

    pinning.catalog.apply([adding(1, make_file(1))], NOW)
    version, told = pinning.told(NODE, version)
    assert told == sizes_by_key(make_files(1, 2))
    pinning.catalog.flush(NODE, EPOCH + 1, NOW)
    assert pinning.told(NODE, version)[1] == sizes_by_key([make_file(2)])


def test_meeting_a_caller_tells_its_pins_too(pinning: Pinning) -> None:
    pinning.catalog.replace(inventory(1, make_files(1)), NOW)
    pinning.pin(NODE, FIRST, make_files(2))

    ((contents, needed),) = pinning.catalog.meet([(NODE, None, state(1, make_files(1)))], NOW)
    assert not needed
    assert contents is not None
    assert contents.files is not None
    assert told_sizes(contents.files) == sizes_by_key(make_files(1, 2))


def test_nodes_without_pins_are_answered_about_as_before(pinning: Pinning) -> None:
    pinning.catalog.apply([adding(1, *make_files(1, 2))], NOW)
    pinning.pin(BARE, FIRST, make_files(3))

    assert pinning.told(NODE, None)[1] == sizes_by_key(make_files(1, 2))
    assert pinning.catalog.list_files(NODE, None, 9) == list(make_files(1, 2))
    assert pinning.catalog.holdings([(NODE, [ref(make_file(3))])]) == [[None]]
