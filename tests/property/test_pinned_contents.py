"""Whoever is told only changes knows what caches and pins make together, whatever happens to either."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pandawn_server.catalog.contents import Version
from pandawn_server.catalog.pins import PinnedFiles
from pandawn_server.catalog.store import Token, route_of
from pandawn_server.domain.catalog.inventory import CachedFile, NodeKey
from tests.fixtures.catalog import (
    NOW,
    catalog_on,
    inventory,
    memory_store,
    ref,
    sizes_by_key,
    told_sizes,
)

NODES = [NodeKey("SITE", "wn01"), NodeKey("SITE", "wn02")]
# Each name with two sizes and two versions, one of them unknown: what a cache holds and what is pinned may differ.
FILES = [
    CachedFile(f"f{number // 4}", 10 + number // 2 % 2, version="site" * (number % 2))
    for number in range(12)
]

nodes = st.sampled_from(NODES)
some_files = st.lists(
    st.sampled_from(FILES),
    max_size=5,
    unique_by=lambda file: file.file_id if file.version else file.lfn,
)


class PinnedMachine(RuleBasedStateMachine):
    """Changes caches and pins beside a model, and keeps a picture of the nodes by `contents`."""

    def __init__(self) -> None:
        super().__init__()
        self.store = memory_store()
        self.catalog = catalog_on(self.store)
        self.book = self.catalog.pins
        self.numbers = iter(range(1, 10_000))
        self.cached: dict[NodeKey, list[CachedFile]] = {}
        self.pinned: dict[NodeKey, list[CachedFile]] = {}
        self.told: dict[NodeKey, tuple[Version, dict[int, int]]] = {}

    @rule(key=nodes, files=some_files)
    def cache_reports(self, key: NodeKey, files: list[CachedFile]) -> None:
        self.catalog.replace(inventory(next(self.numbers), files, key=key), NOW)
        self.cached[key] = files

    @rule(key=nodes)
    def cache_is_flushed(self, key: NodeKey) -> None:
        if self.catalog.flush(key, next(self.numbers), NOW) is not None:
            self.cached[key] = []

    @rule(key=nodes)
    def store_loses_a_node(self, key: NodeKey) -> None:
        self.store.drop_parts(route_of(key), Token("", None), [route_of(key)])
        self.cached.pop(key, None)

    @rule(key=nodes, files=some_files)
    def pins_are_changed(self, key: NodeKey, files: list[CachedFile]) -> None:
        book = {other: pins for other, pins in self.book.nodes.items() if other != key}
        if files:
            book[key] = PinnedFiles.of(next(self.numbers), files, NOW)
        self.book.replace(book)
        self.pinned[key] = files

    @invariant()
    def the_picture_is_right(self) -> None:
        known = [(key, self.told[key][0] if key in self.told else None) for key in NODES]
        for key, contents in zip(NODES, self.catalog.contents(known), strict=True):
            pinned = {file.file_id: file for file in self.pinned.get(key, ())}
            cached = {file.file_id: file for file in self.cached.get(key, ())}
            held = {**pinned, **cached}
            sizes = self.catalog.holdings([(key, [ref(file) for file in FILES])])[0]
            if key not in self.cached and not pinned:
                assert (contents, sizes) == (None, None)
                self.told.pop(key, None)
                continue
            assert contents is not None
            assert sizes is not None
            for file, size in zip(FILES, sizes, strict=True):
                meant = [
                    one.size_bytes
                    for one in held.values()
                    if one.lfn == file.lfn and file.version in {"", one.version}
                ]
                assert size == max(meant, default=None)
            if contents.files is not None:
                self.told[key] = contents.version, told_sizes(contents.files)
            version, picture = self.told[key]
            assert contents.version == version
            assert picture == sizes_by_key(held.values())


def test_a_picture_kept_by_changes_is_that_of_caches_and_pins() -> None:
    run_state_machine_as_test(
        PinnedMachine, settings=settings(max_examples=60, stateful_step_count=30)
    )
