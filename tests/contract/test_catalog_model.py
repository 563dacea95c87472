"""Whatever happens to the messages of caches, the catalog does what a plain dictionary would do.

Caches change, their deltas get lost, repeated and overtaken, inventories and flushes come in
between, and two servers take turns at writing. After each step both servers must agree with the
model; in the end one exchange with each cache heals all that was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.catalog.codec import decode_head
from pandawn_server.catalog.contents import Version
from pandawn_server.catalog.lag import GRACE
from pandawn_server.catalog.store import Store, part_key, route_of
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    Delta,
    DeltaResult,
    FileId,
    FileRef,
    Inventory,
    NodeKey,
    delta_result,
    inventory_digest,
)
from tests.fixtures.catalog import (
    NOW,
    catalog_on,
    memcached_store,
    memory_store,
    ref,
    sizes_by_key,
    told_sizes,
)
from tests.fixtures.memcached import MemcachedServer

NODES = [NodeKey("SITE", "wn01"), NodeKey("SITE", "wn02")]
# Long names make heads overflow into parts after a few files. A name has several versions, one of them
# unknown, and a version several sizes.
VERSIONS = ["", "site", f"sha256:{7:064x}"]
FILES = [
    CachedFile(
        f"{'x' * 150}{number // 4}",
        number % 3,
        "scope" * (number // 4 % 2),
        f"guid-{number // 2}",
        VERSIONS[number % 4 // 2 + number // 8 % 2],
    )
    for number in range(16)
]
assert len({file.file_id for file in FILES}) == len(FILES)

WAYS_TO_NAME: list[Callable[[CachedFile], FileRef]] = [
    ref,
    lambda file: FileRef(file.lfn, file.scope),
    lambda file: FileRef(guid=file.guid),
    lambda file: FileRef(guid=file.guid, version=file.version),
]

nodes = st.sampled_from(NODES)
some_files = st.lists(st.sampled_from(FILES), max_size=6).map(tuple)
server_numbers = st.integers(0, 1)


@dataclass
class Cache:
    """A cache as it really is, or as the catalog is to see it."""

    epoch: int
    sequence: int = 0
    files: dict[FileId, CachedFile] = field(default_factory=dict)

    @property
    def state(self) -> CacheState:
        return CacheState(self.epoch, self.sequence, inventory_digest(self.files.values()))


def is_meant(file: CachedFile, by: FileRef) -> bool:
    """Whether a file is one of those that a reference names."""
    named = (file.scope, file.lfn) == (by.scope, by.lfn) if by.lfn else file.guid == by.guid
    return named and by.version in {"", file.version}


def change(files: dict[FileId, CachedFile], delta: Delta) -> int:
    """Applies a delta to a dictionary; returns the number of files deleted."""
    deleted = 0
    for gone in delta.deleted:
        for name in [name for name, file in files.items() if is_meant(file, gone)]:
            del files[name]
            deleted += 1
    for file in delta.added:
        if not file.version:
            for name in [name for name in files if name[:3] == file.file_id[:3]]:
                del files[name]
        files[file.file_id] = file
    return deleted


class CatalogMachine(RuleBasedStateMachine):
    """Runs two catalogs on one store beside a model; subclasses say on which."""

    def open_store(self) -> Store:
        """A store that holds what the one opened before holds."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.epochs = iter(range(1, 10_000))
        self.caches = {key: Cache(next(self.epochs)) for key in NODES}
        self.sent: dict[NodeKey, list[Delta]] = {key: [] for key in NODES}
        self.model: dict[NodeKey, Cache] = {}
        self.store = self.open_store()
        self.catalogs = [catalog_on(self.open_store()), catalog_on(self.open_store())]
        self.forget_what_was_told()

    def forget_what_was_told(self) -> None:
        """As somebody does who starts together with the servers, and keeps a picture of the nodes."""
        self.told: list[dict[NodeKey, tuple[Version, dict[int, int]]]] = [{}, {}]

    def server(self, number: int) -> Catalog:
        return self.catalogs[number]

    def expect(self, delta: Delta) -> tuple[DeltaResult, int]:
        """What applying a delta is to give; applies it to the model."""
        known = self.model.get(delta.key)
        if delta.epoch == 0:
            if known is None:
                if not delta.added:
                    return DeltaResult.APPLIED, 0
                # The epoch is the catalog's to draw.
                self.model[delta.key] = known = Cache(0, 0, {})
            return DeltaResult.APPLIED, change(known.files, delta)
        verdict = delta_result(known.state if known else None, delta)
        if verdict is not DeltaResult.APPLIED:
            return verdict, 0
        if known is None or known.epoch != delta.epoch:
            self.model[delta.key] = known = Cache(delta.epoch, 0, {})
        deleted = change(known.files, delta)
        known.sequence = delta.sequence
        return DeltaResult.APPLIED, deleted

    def apply(self, number: int, deltas: list[Delta]) -> None:
        expected = [self.expect(delta) for delta in deltas]
        outcomes = self.server(number).apply(deltas, NOW)
        assert [(o.result, o.deleted_count) for o in outcomes] == expected
        for key in {delta.key for delta in deltas if delta.epoch == 0}:
            self.learn_epoch(key)

    def learn_epoch(self, key: NodeKey) -> None:
        picture = self.model.get(key)
        if picture is not None and picture.epoch == 0:
            summary = self.server(0).summaries([key])[0]
            assert summary is not None
            assert summary.state.epoch != 0
            picture.epoch = summary.state.epoch

    def change_cache(
        self,
        key: NodeKey,
        added: tuple[CachedFile, ...],
        gone: tuple[CachedFile, ...],
        name: Callable[[CachedFile], FileRef],
    ) -> Delta:
        cache = self.caches[key]
        cache.sequence += 1
        refs = tuple(map(name, gone))
        delta = Delta(key, cache.epoch, cache.sequence, added, refs)
        change(cache.files, delta)
        self.sent[key].append(delta)
        return delta

    @rule(
        numbers=st.lists(server_numbers, max_size=2),
        key=nodes,
        added=some_files,
        gone=some_files,
        name=st.sampled_from(WAYS_TO_NAME),
    )
    def cache_changes(
        self,
        numbers: list[int],
        key: NodeKey,
        added: tuple[CachedFile, ...],
        gone: tuple[CachedFile, ...],
        name: Callable[[CachedFile], FileRef],
    ) -> None:
        """A change, whose delta is sent to no server, one, or twice."""
        delta = self.change_cache(key, added, gone, name)
        for number in numbers:
            self.apply(number, [delta])

    @rule(number=server_numbers, key=nodes, data=st.data())
    def old_deltas_arrive(self, number: int, key: NodeKey, data: st.DataObject) -> None:
        """Of this epoch or of one before."""
        if self.sent[key]:
            late = data.draw(st.lists(st.sampled_from(self.sent[key]), min_size=1, max_size=4))
            self.apply(number, late)

    @rule(number=server_numbers, key=nodes, added=some_files, gone=some_files)
    def somebody_changes_directly(
        self,
        number: int,
        key: NodeKey,
        added: tuple[CachedFile, ...],
        gone: tuple[CachedFile, ...],
    ) -> None:
        self.apply(number, [Delta(key, 0, 0, added, tuple(ref(file) for file in gone))])

    @rule(number=server_numbers, key=nodes, pairs=st.integers(10, 40))
    def cache_is_busy(self, number: int, key: NodeKey, pairs: int) -> None:
        """Enough changes to fill many parts and to have them packed."""
        deltas = [
            self.change_cache(key, (FILES[n % 16],), (FILES[(n + 5) % 16],), ref)
            for n in range(pairs)
        ]
        for start in range(0, pairs, 2):
            self.apply(number, deltas[start : start + 2])

    @rule(number=server_numbers, key=nodes)
    def cache_sends_inventory(self, number: int, key: NodeKey) -> None:
        cache = self.caches[key]
        known = self.model.get(key)
        drift = self.server(number).replace(
            Inventory(key, cache.epoch, cache.sequence, tuple(cache.files.values())), NOW
        )
        before = known.files if known else cache.files
        wrong = before.keys() ^ cache.files.keys()
        assert drift.files == len(wrong)
        assert drift.size_bytes == sum(size for _, _, _, size in wrong)
        self.model[key] = Cache(cache.epoch, cache.sequence, dict(cache.files))

    @rule(number=server_numbers, key=nodes)
    def cache_is_flushed(self, number: int, key: NodeKey) -> None:
        self.caches[key] = Cache(next(self.epochs))
        known = self.model.get(key)
        forgotten = self.server(number).flush(key, self.caches[key].epoch, NOW)
        assert forgotten == (len(known.files) if known else None)
        if known:
            self.model[key] = Cache(self.caches[key].epoch, 0, {})

    @rule(key=nodes)
    def node_is_imaged_anew(self, key: NodeKey) -> None:
        self.caches[key] = Cache(next(self.epochs))

    @rule(number=server_numbers)
    def caches_touch(self, number: int) -> None:
        told = [(key, cache.state) for key, cache in self.caches.items()]
        for (key, state), needed in zip(told, self.server(number).touch(told, NOW), strict=True):
            known = self.model.get(key)
            if known is None or known.epoch != state.epoch:
                assert needed
            elif known.sequence == state.sequence:
                assert needed == (known.state.digest != state.digest)
            else:
                assert not needed

    @rule()
    def servers_restart(self) -> None:
        for catalog in self.catalogs:
            catalog.close()
        self.catalogs = [catalog_on(self.open_store()), catalog_on(self.open_store())]
        self.forget_what_was_told()

    @rule(key=nodes, spoil=st.booleans(), data=st.data())
    def store_loses_or_spoils_a_value(self, key: NodeKey, spoil: bool, data: st.DataObject) -> None:
        if key not in self.model:
            return
        route = route_of(key)
        slot = self.store.open_heads([route])[route]
        assert slot.raw is not None
        parts = [part_key(route, part_id) for part_id in decode_head(key, slot.raw).parts]
        victim = data.draw(st.sampled_from([route, *parts]))
        if spoil:
            value = self.store.read_parts({route: [victim]})[victim]
            spoiled = value[:-1] + bytes([value[-1] ^ 1])
            self.store.write_parts(route, slot.token, {victim: spoiled})
        else:
            self.store.drop_parts(route, slot.token, [victim])
        # Servers that have decoded it already may go on from that: here they have not.
        self.servers_restart()
        self.model.pop(key, None)

    @invariant()
    def both_servers_agree_with_the_model(self) -> None:
        refs = [name(file) for name in WAYS_TO_NAME for file in FILES]
        by_lfn_count = 2 * len(FILES)
        for number in (0, 1):
            catalog = self.server(number)
            answers = catalog.holdings([(key, refs) for key in NODES])
            lfn_answers = catalog.holdings([(key, refs[:by_lfn_count]) for key in NODES])
            summaries = catalog.summaries(NODES)
            for key, answer, by_lfn, summary in zip(
                NODES, answers, lfn_answers, summaries, strict=True
            ):
                listed = catalog.list_files(key, None, 100)
                picture = self.model.get(key)
                if picture is None:
                    assert (answer, by_lfn, summary, listed) == (None, None, None, None)
                    continue
                names = sorted(picture.files)
                assert listed == [picture.files[name] for name in names]
                assert summary is not None
                assert summary.state == picture.state
                assert summary.file_count == len(names)
                assert summary.total_bytes == sum(f.size_bytes for f in picture.files.values())
                assert answer == [
                    max(
                        (f.size_bytes for f in picture.files.values() if is_meant(f, one)),
                        default=None,
                    )
                    for one in refs
                ]
                assert by_lfn == answer[:by_lfn_count]

    @invariant()
    def whoever_is_told_only_changes_knows_all(self) -> None:
        for number in (0, 1):
            told = self.told[number]
            known = [(key, told[key][0] if key in told else None) for key in NODES]
            for key, contents in zip(NODES, self.server(number).contents(known), strict=True):
                picture = self.model.get(key)
                if contents is None or picture is None:
                    assert (contents, picture) == (None, None)
                    told.pop(key, None)
                    continue
                if contents.files is not None:
                    told[key] = contents.version, told_sizes(contents.files)
                version, sizes = told[key]
                assert contents.version == version
                assert (contents.epoch, contents.sequence) == (
                    picture.state.epoch,
                    picture.state.sequence,
                )
                assert sizes == sizes_by_key(picture.files.values())

    def teardown(self) -> None:
        """One exchange heals everything, for each cache through either server."""
        for number, (key, cache) in enumerate(self.caches.items()):
            catalog = self.server(number)
            # A lag is only healed when it has lasted.
            needed = catalog.touch([(key, cache.state)], NOW)[0]
            if not needed:
                needed = catalog.touch([(key, cache.state)], NOW + GRACE)[0]
            if needed:
                files = tuple(cache.files.values())
                catalog.replace(Inventory(key, cache.epoch, cache.sequence, files), NOW)
            names = sorted(cache.files)
            assert catalog.list_files(key, None, 100) == [cache.files[name] for name in names]
            assert catalog.touch([(key, cache.state)], NOW) == [False]
        for catalog in self.catalogs:
            catalog.close()
        self.store.close()


def test_a_catalog_in_this_process_does_as_the_model() -> None:
    class Machine(CatalogMachine):
        def __init__(self) -> None:
            self.shared = memory_store()
            super().__init__()

        def open_store(self) -> Store:
            return self.shared

    run_state_machine_as_test(Machine, settings=settings(max_examples=30, stateful_step_count=40))


def test_a_catalog_in_memcached_does_as_the_model(memcached: MemcachedServer) -> None:
    class Machine(CatalogMachine):
        def __init__(self) -> None:
            memcached.flush()
            super().__init__()

        def open_store(self) -> Store:
            return memcached_store([memcached])

    run_state_machine_as_test(
        Machine,
        # Shrinking over a network takes minutes; what fails here mostly fails above too.
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
