"""What the packed catalog asks of its store, and what it makes of a store that forgets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta

import pytest

from pandawn_server.catalog.memory import MemoryStore
from pandawn_server.catalog.store import Slot, Stored, Token, route_of
from pandawn_server.domain.catalog.inventory import CachedFile, Delta, DeltaResult, FileRef, NodeKey
from pandawn_server.domain.errors import UnavailableError
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    SILENCE,
    ManualClock,
    adding,
    catalog_on,
    deleting,
    held,
    inventory,
    is_known,
    make_file,
    make_files,
    memory_store,
    ref,
    state,
)

ROUTE = route_of(NODE)
# Enough for parts beside the head.
MANY = make_files(*range(200))


class WatchedStore(MemoryStore):
    """Counts what is asked of it, and refuses or forgets on request."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__(SILENCE, 2**28, clock or ManualClock())
        self.reads: list[int] = []
        self.part_reads: list[int] = []
        self.writes = 0
        self.prolonged = 0
        self.before_part_read: Callable[[], object] | None = None
        self.has_room = True
        self.others_are_faster = 0

    def read_heads(self, routes: Collection[str]) -> dict[str, bytes]:
        self.reads.append(len(routes))
        return super().read_heads(routes)

    def read_parts(self, wanted: Mapping[str, Collection[str]]) -> dict[str, bytes]:
        meanwhile, self.before_part_read = self.before_part_read, None
        if meanwhile:
            meanwhile()
        found = {}
        for keys in wanted.values():
            found.update(MemoryStore.read_heads(self, keys))
        self.part_reads.append(len(found))
        return found

    def write_head(self, route: str, token: Token, value: bytes) -> Stored:
        self.writes += 1
        if self.others_are_faster:
            self.others_are_faster -= 1
            return Stored.CONFLICT
        return super().write_head(route, token, value) if self.has_room else Stored.NO_ROOM

    def write_parts(self, route: str, token: Token, values: Mapping[str, bytes]) -> Stored:
        self.writes += 1
        return super().write_parts(route, token, values) if self.has_room else Stored.NO_ROOM

    def prolong(self, route: str, keys: Iterable[str]) -> bool:
        self.prolonged += 1
        return super().prolong(route, keys)

    def part_keys(self) -> list[str]:
        return [key for key in self._items if "-" in key]

    def forget(self, *keys: str) -> None:
        self.drop_parts(ROUTE, Token("", None), keys)

    def slot(self) -> Slot:
        return self.open_heads([ROUTE])[ROUTE]


def test_asking_of_many_nodes_takes_one_read_and_no_write() -> None:
    store = WatchedStore()
    catalog = catalog_on(store)
    keys = [NodeKey("SITE", f"wn{number}") for number in range(50)]
    for key in keys:
        catalog.replace(inventory(1, MANY, key=key), NOW)
    queries = [(key, [ref(file) for file in MANY]) for key in keys]

    catalog.holdings(queries)
    assert store.part_reads == [50]
    store.reads.clear()
    store.part_reads.clear()
    store.writes = 0
    answers = catalog.holdings(queries)
    catalog.summaries(keys)
    catalog.touch([(key, state(1, MANY)) for key in keys], NOW)

    assert answers == [[file.size_bytes for file in MANY]] * 50
    assert store.reads == [50, 50, 50]
    assert store.part_reads == []
    assert store.writes == 0


def test_a_small_change_reads_and_writes_little() -> None:
    store = WatchedStore()
    catalog = catalog_on(store)
    catalog.replace(inventory(1, MANY), NOW)
    held(catalog, MANY)
    store.part_reads.clear()
    store.writes = 0

    catalog.apply([adding(2, make_file(1000))], NOW)
    assert held(catalog, make_files(1, 1000)) == [1001, 2000]
    assert store.writes == 1
    assert sum(store.part_reads) == 0


def test_a_cache_that_changes_all_the_time_does_not_pile_up_values() -> None:
    store = WatchedStore()
    catalog = catalog_on(store)
    # With such names each delta makes a part.
    files = [CachedFile(f"{'x' * 900}{number}", 1, guid=f"g{number}") for number in range(8)]
    most = 0
    for sequence in range(1, 400):
        come, go = files[sequence % 8], files[(sequence + 3) % 8]
        delta = Delta(NODE, EPOCH, sequence, added=(come,), deleted=(ref(go),))
        assert catalog.apply([delta], NOW)[0].result is DeltaResult.APPLIED
        most = max(most, len(store.part_keys()))
    assert 20 < most < 80
    listed = catalog_on(store).list_files(NODE, None, 10)
    assert listed is not None
    assert catalog.touch([(NODE, state(399, listed))], NOW) == [False]
    assert {file.guid for file in listed} == {f"g{n % 8}" for n in range(395, 400)}


def test_parts_that_no_head_names_any_more_are_dropped() -> None:
    store = WatchedStore()
    catalog = catalog_on(store)
    for sequence in range(1, 20):
        catalog.replace(inventory(sequence, MANY), NOW)
    assert len(store.part_keys()) == 1
    catalog.flush(NODE, EPOCH + 1, NOW)
    assert store.part_keys() == []


def test_a_node_with_a_lost_part_is_unknown_until_its_inventory_comes() -> None:
    store = WatchedStore()
    first, second = catalog_on(store), catalog_on(store)
    first.replace(inventory(1, MANY), NOW)
    store.forget(*store.part_keys())

    assert not is_known(second)
    assert second.summaries([NODE]) == [None]
    assert second.touch([(NODE, state(1, MANY))], NOW) == [True]
    assert second.apply([adding(2, make_file(1))], NOW)[0].result is (
        DeltaResult.INVENTORY_REQUESTED
    )
    second.replace(inventory(1, MANY), NOW)
    for catalog in (first, second):
        assert held(catalog, MANY) == [file.size_bytes for file in MANY]
        assert catalog.touch([(NODE, state(1, MANY))], NOW) == [False]


def test_a_node_packed_by_another_server_meanwhile_is_not_taken_for_lost() -> None:
    """Its parts vanish between the reading of its head and theirs, and new ones are there."""
    store = WatchedStore()
    first = catalog_on(store)
    first.replace(inventory(1, MANY), NOW)

    def pack() -> None:
        first.replace(inventory(1, MANY), NOW)

    store.before_part_read = pack
    assert held(catalog_on(store), MANY[:1]) == [1000]
    store.before_part_read = pack
    assert catalog_on(store).list_files(NODE, None, 1) == list(MANY[:1])
    store.before_part_read = pack
    assert (
        catalog_on(store).apply([adding(2, make_file(999))], NOW)[0].result is DeltaResult.APPLIED
    )
    writer = catalog_on(store)
    held(writer, MANY[:1])
    store.before_part_read = pack
    # By GUID all entries are needed, which are not at hand as the view is.
    gone = deleting(0, FileRef(guid=MANY[3].guid), epoch=0)
    assert writer.apply([gone], NOW)[0].deleted_count == 1
    assert held(first, [MANY[3], make_file(999)]) == [None, None]


def test_a_direct_change_of_a_node_with_a_lost_part_starts_it_anew() -> None:
    store = WatchedStore()
    catalog_on(store).replace(inventory(1, MANY), NOW)
    store.forget(*store.part_keys())

    catalog = catalog_on(store)
    catalog.apply([adding(0, make_file(999), epoch=0)], NOW)
    assert held(catalog, [MANY[0], make_file(999)]) == [None, 1999]
    assert catalog.touch([(NODE, state(1, MANY))], NOW) == [True]


def test_a_head_that_is_not_ours_is_replaced_by_an_inventory() -> None:
    store = WatchedStore()
    store.write_head(ROUTE, store.slot().token, b"what is this")
    catalog = catalog_on(store)

    assert not is_known(catalog)
    catalog.replace(inventory(1, MANY), NOW)
    assert held(catalog, MANY[:1]) == [1000]


def test_servers_that_went_apart_agree_again_by_the_head_that_is_there() -> None:
    """As after a memcached that only one of two servers could reach."""
    store = WatchedStore()
    first, second = catalog_on(store), catalog_on(store)
    first.replace(inventory(1, MANY), NOW)
    held(second, MANY)
    before = store.slot()
    first.apply([adding(2, make_file(1000))], NOW)
    held(first, MANY)
    assert before.raw is not None
    # The same beginning goes on in another way.
    store.write_head(ROUTE, store.slot().token, before.raw)
    second.apply([adding(2, make_file(2000), make_file(3000))], NOW)

    for catalog in (first, second):
        assert held(catalog, make_files(0, 1000, 2000, 3000)) == [1000, None, 3000, 4000]


@pytest.mark.parametrize("files", [MANY, MANY[:1]], ids=["parts", "head"])
def test_what_does_not_fit_is_asked_for_again_or_refused(files: tuple[CachedFile, ...]) -> None:
    store = WatchedStore()
    catalog = catalog_on(store)
    store.has_room = False
    other = NodeKey("SITE", "wn02")

    outcomes = catalog.apply([adding(1, *files), adding(1, *files, key=other)], NOW)
    assert [o.result for o in outcomes] == [DeltaResult.INVENTORY_REQUESTED] * 2
    with pytest.raises(UnavailableError, match="has no room") as refused:
        catalog.replace(inventory(1, files), NOW)
    assert refused.value.reason == "CATALOG_UNAVAILABLE"
    assert refused.value.metadata["node"] == NODE.node
    assert refused.value.retry_after is not None
    with pytest.raises(UnavailableError):
        catalog.apply([adding(0, *files, epoch=0)], NOW)
    assert store.part_keys() == []


def test_a_node_that_others_keep_writing_does_not_hold_up_its_neighbours() -> None:
    store = WatchedStore()
    catalog = catalog_on(store)
    store.others_are_faster = 5
    assert catalog.apply([adding(1, *MANY)], NOW)[0].result is DeltaResult.APPLIED
    assert len(store.part_keys()) == 1

    store.others_are_faster = 10**6
    assert catalog.apply([adding(2, make_file(999))], NOW)[0].result is (
        DeltaResult.INVENTORY_REQUESTED
    )
    assert held(catalog, make_files(0, 999)) == [1000, None]


def test_a_node_is_forgotten_after_its_silence_and_not_before() -> None:
    clock = ManualClock()
    store = WatchedStore(clock)
    catalog = catalog_on(store, clock)
    catalog.replace(inventory(1, MANY), NOW)

    for _ in range(30):
        clock.advance(SILENCE / 10)
        assert catalog.touch([(NODE, state(1, MANY))], NOW) == [False]
    # A life is prolonged now and then, not at each contact.
    assert store.prolonged <= 12
    assert held(catalog_on(store, clock), MANY[:1]) == [1000]
    clock.advance(SILENCE)
    assert not is_known(catalog)
    assert catalog.touch([(NODE, state(1, MANY))], NOW) == [True]


def test_deltas_keep_old_parts_alive() -> None:
    clock = ManualClock()
    store = WatchedStore(clock)
    catalog = catalog_on(store, clock)
    catalog.replace(inventory(1, MANY), NOW)
    for sequence in range(2, 30):
        clock.advance(SILENCE / 10)
        catalog.apply([adding(sequence, make_file(1000 + sequence))], NOW)
    assert held(catalog_on(store, clock), MANY[:1]) == [1000]


def test_a_touch_finds_a_part_that_was_evicted_while_this_process_still_knew_it() -> None:
    clock = ManualClock()
    store = WatchedStore(clock)
    catalog = catalog_on(store, clock)
    catalog.replace(inventory(1, MANY), NOW)
    held(catalog, MANY)
    store.forget(*store.part_keys())

    assert held(catalog, MANY[:1]) == [1000]
    clock.advance(SILENCE / 4 + timedelta(seconds=1))
    assert catalog.touch([(NODE, state(1, MANY))], NOW) == [True]


def test_a_full_store_in_this_process_forgets_what_was_unused_for_longest() -> None:
    clock = ManualClock()
    store = memory_store(clock, max_bytes=40_000)
    catalog = catalog_on(store, clock)
    keys = [NodeKey("SITE", f"wn{number}") for number in range(30)]
    for key in keys:
        catalog.replace(inventory(1, MANY, key=key), NOW)
        # In use all the time.
        held(catalog, MANY, key=keys[0])

    known = [catalog_on(store, clock).holdings([(key, [])]) != [None] for key in keys]
    assert not all(known)
    assert known[-1]
    # Its head was read all the time, but not its parts: all or nothing is known of it.
    assert sum(known) >= 3
    for key, is_there in zip(keys, known, strict=True):
        answer = catalog_on(store, clock).holdings([(key, [ref(MANY[7])])])
        assert answer == ([[1007]] if is_there else [None])


def test_a_value_larger_than_the_whole_store_is_refused() -> None:
    clock = ManualClock()
    catalog = catalog_on(memory_store(clock, max_bytes=500), clock)
    with pytest.raises(UnavailableError, match="no room"):
        catalog.replace(inventory(1, MANY), NOW)
