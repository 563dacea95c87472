"""The catalog over a store of values: one head per node, and parts with the files of larger nodes.

The match path costs one multi-get of heads for all nodes of a batch; only changes since this process last read
are fetched and decoded. Writers read a head, write parts under new random keys, and replace the head by
compare-and-set. So a reader sees one state or the other, never a half-finished write. A lost part makes its
node unknown.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import repeat
from typing import TypeVar

from pandawn_server.catalog.codec import Head
from pandawn_server.catalog.contents import Contents, Version
from pandawn_server.catalog.draft import Draft, needs_entries
from pandawn_server.catalog.lag import LagWatch
from pandawn_server.catalog.lifetimes import Lifetimes
from pandawn_server.catalog.pins import PinBook, PinnedFiles, joined, larger, with_sums
from pandawn_server.catalog.snapshots import Snapshots
from pandawn_server.catalog.store import Pulse, Store
from pandawn_server.catalog.views import Wanted
from pandawn_server.catalog.writer import Writer
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    CacheSummary,
    Delta,
    DeltaOutcome,
    DeltaResult,
    Drift,
    FileId,
    FileRef,
    Inventory,
    NodeKey,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


Observe = Callable[[str, int], AbstractContextManager[object]]
"""Surrounds an operation, by its name and how many items it has."""


def unobserved(operation: str, items: int) -> AbstractContextManager[object]:
    """Measures nothing."""
    del operation, items
    return nullcontext()


class Catalog:
    """What all nodes hold: what their caches report, and pins. Thread-safe.

    A hint: it may lose entries, but never invents them. A node is unknown if it never reported, was silent for too
    long, or if part of its data was lost. Then nothing counts as known about it until its cache sends a full inventory.

    Pins appear in answers but are never written: deltas, inventories, digests and drift concern caches only. A file
    that is both reported and pinned counts once; another version or size is another file.

    Calls take lists, so that many pilots share one round trip. Every method except `unreachable`, `pulse` and `close`
    raises `domain.errors.UnavailableError` (CATALOG_UNAVAILABLE) when no server of the store answers.
    """

    def __init__(
        self,
        store: Store,
        lifetimes: Lifetimes,
        max_files: int,
        pins: PinBook | None = None,
        observe: Observe = unobserved,
    ) -> None:
        """Keeps values in `store`, and caches views of up to `max_files` files; each call runs in an `observe`."""
        self.pins = pins or PinBook()
        self._observe = observe
        self._store = store
        self._lifetimes = lifetimes
        self._snapshots = Snapshots(store, max_files)
        self._writer = Writer(store, self._snapshots, lifetimes)
        self._lag = LagWatch()

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """Applies deltas in order; returns one outcome each (see `domain.inventory.delta_result`).

        Concurrent writers to one node are serialised: no applied delta is lost. A direct delta (epoch 0) makes an
        unknown node known, under an epoch that the catalog draws, unless it only deletes: then nothing changes. A
        delta that the store could not keep, for example for lack of room, gets INVENTORY_REQUESTED; a direct one
        raises `UnavailableError`, after all others were applied.
        """
        with self._observe("apply", len(deltas)):
            by_node: dict[NodeKey, list[Delta]] = {}
            for delta in deltas:
                by_node.setdefault(delta.key, []).append(delta)
            by_entries = {delta.key for delta in deltas if needs_entries(delta)}
            changes = {key: _applying(of_node) for key, of_node in by_node.items()}
            written = self._writer.write(changes, now, by_entries)
            outcomes: dict[NodeKey, Iterator[DeltaOutcome]] = {
                key: iter(of_node) for key, of_node in written.done.items()
            }
            for key, error in written.failed.items():
                if any(delta.epoch == 0 for delta in by_node[key]):
                    raise error
                _log.warning("deltas dropped, inventory requested: %s", error.message)
                outcomes[key] = repeat(DeltaOutcome(DeltaResult.INVENTORY_REQUESTED))
            return [next(outcomes[delta.key]) for delta in deltas]

    def replace(self, inventory: Inventory, now: datetime) -> Drift:
        """Replaces what is known by a full inventory, and returns how wrong that was.

        There is no drift for an unknown node.
        """
        with self._observe("replace", len(inventory.files)):
            return self._write_one(inventory.key, lambda draft: draft.replace(inventory), now)

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """Starts a new epoch with no files; returns how many files were dropped.

        Returns None for an unknown node, and writes nothing. Returns 0 if `epoch` has started already: a repeated
        flush does not drop later files.
        """
        with self._observe("flush", 1):
            return self._write_one(key, lambda draft: draft.flush(epoch), now)

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """Compares the states that caches report with the known ones; keeps matching nodes alive.

        Returns for each node whether a full inventory is needed: the node or its epoch is unknown, the digests
        differ at the same sequence number, or the numbers have differed for `lag.GRACE` without a change here
        (until then deltas are assumed to be on their way).
        """
        with self._observe("touch", len(states)):
            heads = self._snapshots.heads(key for key, _ in states)
            return [self._needs_inventory(key, heads.get(key), state, now) for key, state in states]

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[int | None] | None]:
        """The sizes in bytes of each node's list of files; None for a file that is not held.

        Without a version any file of that name matches; of several, the largest counts. None in place of the list
        means an unknown node. Cheapest with files by LFN, and when queries share one list object.
        """
        with self._observe("holdings", len(queries)):
            views = self._snapshots.views(key for key, _ in queries)
            # Queries that share a list are prepared once.
            uses = Counter(id(refs) for _, refs in queries)
            prepared: dict[int, Wanted | None] = {}
            answers: list[list[int | None] | None] = []
            for key, refs in queries:
                if id(refs) not in prepared:
                    by_lfn = all(ref.lfn for ref in refs)
                    in_many = uses[id(refs)] > 1
                    prepared[id(refs)] = Wanted(refs, in_many=in_many) if by_lfn else None
                wanted = prepared[id(refs)]
                view = views.get(key)
                if view is None:
                    answers.append(None)
                elif wanted is not None:
                    answers.append(wanted.sizes_in(view.held))
                else:
                    entries = self._snapshots.entries(key)
                    answers.append([entries.size(ref) for ref in refs] if entries else None)
            return [
                _with_pinned(refs, sizes, self.pins.nodes.get(key))
                for (key, refs), sizes in zip(queries, answers, strict=True)
            ]

    def contents(self, known: Sequence[tuple[NodeKey, Version | None]]) -> list[Contents | None]:
        """What each node holds, unless it is unchanged since the given version.

        None for an unknown node. Costs one multi-get of heads for all; only nodes with another version cost more.
        Any change of a node's files or of its cache's state makes a new version. A node named twice must come with
        the same version each time.
        """
        with self._observe("contents", len(known)):
            found = self._snapshots.contents(dict(known))
            return self._with_pins(known, [found.get(key) for key, _ in known])

    def meet(
        self, callers: Sequence[tuple[NodeKey, Version | None, CacheState]], now: datetime
    ) -> list[tuple[Contents | None, bool]]:
        """`contents` and `touch` of the same nodes, reading their heads once."""
        with self._observe("meet", len(callers)):
            known = [(key, version) for key, version, _ in callers]
            found = self._snapshots.contents(dict(known))
            heads = self._snapshots.decoded({key: has.version.head for key, has in found.items()})
            contents = self._with_pins(known, [found.get(key) for key, _ in known])
            return [
                (held, self._needs_inventory(key, heads.get(key), state, now))
                for held, (key, _, state) in zip(contents, callers, strict=True)
            ]

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """The state of each node's cache; None for an unknown node."""
        with self._observe("summaries", len(keys)):
            heads, nodes = self._snapshots.heads(keys), self.pins.nodes
            known = [(key, heads[key].summary if key in heads else None) for key in keys]
            return [
                with_sums(key, summary, nodes[key]) if key in nodes else summary
                for key, summary in known
            ]

    def list_files(self, key: NodeKey, after: FileId | None, limit: int) -> list[CachedFile] | None:
        """Up to `limit` files of a node after `after`, in the order of `FileId`; None for an unknown node."""
        with self._observe("list_files", 1):
            entries = self._snapshots.entries(key)
            return entries.after(after, limit) if entries else None

    def unreachable(self) -> list[str]:
        """Contacts each server of the store; returns a sentence for each that does not answer."""
        with self._observe("unreachable", 1):
            return self._store.unreachable()

    def pulse(self) -> Pulse:
        """The state of each server of the store, read cheaply. Does not raise.

        If it differs from the last pulse, a server was lost, came back, or lost its content: compare again what
        was read before.
        """
        with self._observe("pulse", 1):
            return self._store.pulse()

    def close(self) -> None:
        """Closes connections."""
        self._store.close()

    def _with_pins(
        self,
        known: Sequence[tuple[NodeKey, Version | None]],
        cached: list[Contents | None],
    ) -> list[Contents | None]:
        """Adds pins to what caches hold; `cached` may be unchanged even if the pins are not."""
        nodes = self.pins.nodes
        incomplete: list[tuple[int, NodeKey, PinnedFiles | None]] = []
        for position, (key, version) in enumerate(known):
            pins, contents = nodes.get(key), cached[position]
            if pins is None and (version is None or not version.pins):
                continue
            if contents is not None and contents.files is None:
                if version is not None and version.pins == (pins.version if pins else 0):
                    continue
                # Only the pins have changed, but the answer needs all files.
                incomplete.append((position, key, pins))
            else:
                cached[position] = joined(version, contents, pins)
        if incomplete:
            again = self._snapshots.contents(dict.fromkeys(key for _, key, _ in incomplete))
            for position, key, pins in incomplete:
                cached[position] = joined(None, again.get(key), pins)
        return cached

    def _needs_inventory(
        self, key: NodeKey, head: Head | None, reported: CacheState, now: datetime
    ) -> bool:
        known = head.state if head else None
        if self._lag.needs_inventory(key, known, reported, now):
            return True
        return head is not None and not self._lifetimes.heard_of(key, head)

    def _write_one(self, key: NodeKey, change: Callable[[Draft], T], now: datetime) -> T:
        written = self._writer.write({key: change}, now)
        if key in written.failed:
            raise written.failed[key]
        return written.done[key]


def _applying(deltas: Sequence[Delta]) -> Callable[[Draft], list[DeltaOutcome]]:
    return lambda draft: [draft.apply(delta) for delta in deltas]


def _with_pinned(
    refs: Sequence[FileRef], sizes: list[int | None] | None, pins: PinnedFiles | None
) -> list[int | None] | None:
    if pins is None:
        return sizes
    cached = sizes or [None] * len(refs)
    return [larger(pins.size(ref), size) for ref, size in zip(refs, cached, strict=True)]
