"""Reads nodes from a store and caches what it decodes, so that only changes are decoded again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from pandawn_server.catalog.codec import (
    CodecError,
    Head,
    Records,
    decode_head,
    decode_part,
    decode_records,
)
from pandawn_server.catalog.contents import Contents, Version
from pandawn_server.catalog.recent import Recent
from pandawn_server.catalog.store import Store, part_key, route_of
from pandawn_server.catalog.views import Entries, View, follow
from pandawn_server.domain.catalog.inventory import NodeKey

_VIEW_COST = 43
"""Cost of a view besides its files, in files of 24 bytes: its head, raw and decoded."""

_MAX_ENTRIES = 250_000
"""Maximum decoded entries cached, in files of about 400 bytes: enough to page through a few nodes."""

_REMEMBERED_NODES = 100_000
"""Maximum nodes for the caches of small values."""

_ATTEMPTS = 3
"""A writer may pack a node after its head was read and before its parts are: then read both again."""

route = lru_cache(_REMEMBERED_NODES)(route_of)
"""`route_of`, cached: the match path asks for the same nodes over and over."""


class Snapshots:
    """Views and entries of nodes, each for one state of the node's head.

    A node with missing or unreadable values is unknown, and left out of the results.
    """

    def __init__(self, store: Store, max_files: int) -> None:
        """Reads from a store and caches views of up to `max_files` files, at 24 bytes each."""
        self._store = store
        self._heads: Recent[NodeKey, tuple[bytes, Head]] = Recent(_REMEMBERED_NODES)
        self._views: Recent[NodeKey, View] = Recent(max_files)
        self._entries: Recent[NodeKey, Entries] = Recent(_MAX_ENTRIES)
        self._broken: Recent[NodeKey, bytes] = Recent(_REMEMBERED_NODES)

    def heads(self, keys: Iterable[NodeKey]) -> dict[NodeKey, Head]:
        """The heads of nodes; leaves out those known to have lost parts."""
        return self.decoded(self._read(keys))

    def decoded(self, raws: Mapping[NodeKey, bytes]) -> dict[NodeKey, Head]:
        """Like `heads`, for values just read."""
        found = {}
        for key, raw in raws.items():
            head = self._head(key, raw)
            if head is not None and self._broken.get(key) != raw:
                found[key] = head
        return found

    def contents(self, known: Mapping[NodeKey, Version | None]) -> dict[NodeKey, Contents]:
        """What nodes hold; without files if the version is the known one."""
        found: dict[NodeKey, Contents] = {}
        changed: dict[NodeKey, bytes] = {}
        for key, raw in self._read(known).items():
            version = known[key]
            if version is not None and version.head == raw:
                found[key] = Contents(version, version.epoch, version.sequence, None)
            else:
                changed[key] = raw
        if changed:
            for key, view in self._views_of(changed).items():
                epoch, sequence = view.head.state.epoch, view.head.state.sequence
                version = Version(view.raw, epoch, sequence)
                found[key] = Contents(version, epoch, sequence, view.held)
        return found

    def views(self, keys: Iterable[NodeKey]) -> dict[NodeKey, View]:
        """The views of nodes."""
        return self._views_of(self._read(keys))

    def _views_of(self, read: Mapping[NodeKey, bytes]) -> dict[NodeKey, View]:
        """The views for heads just read, or for newer heads if those are outdated."""
        views: dict[NodeKey, View] = {}
        raws: dict[NodeKey, bytes] = {}
        for _ in range(_ATTEMPTS):
            # The same head again as when its parts were missing: they are lost, not packed.
            again = {key: raw for key, raw in read.items() if raws.get(key) != raw}
            fresh = self.resolve(again)
            views.update(fresh)
            missing = again.keys() - fresh.keys()
            if not missing:
                break
            raws = again
            read = self._read(missing)
        return views

    def entries(self, key: NodeKey) -> Entries | None:
        """All entries of a node."""
        tried = None
        for _ in range(_ATTEMPTS):
            raw = self._read([key]).get(key)
            if raw is None or raw == tried:
                return None
            entries = self.expand(key, raw)
            if entries is not None:
                return entries
            tried = raw
        return None

    def resolve(self, raws: Mapping[NodeKey, bytes]) -> dict[NodeKey, View]:
        """The views for heads just read."""
        views: dict[NodeKey, View] = {}
        pending: list[tuple[NodeKey, Head, View | None]] = []
        for key, raw in raws.items():
            known = self._views.get(key)
            if known is not None and known.raw == raw:
                views[key] = known
                continue
            head = self._head(key, raw)
            if head is not None:
                pending.append((key, head, _base(known, head)))
        while pending:
            parts = self._store.read_parts(
                {route(key): _part_keys(key, _missing(base, head)) for key, head, base in pending}
            )
            from_nothing: list[tuple[NodeKey, Head, View | None]] = []
            for key, head, base in pending:
                try:
                    news = _news(key, head, _missing(base, head), parts)
                    view = follow(base, raws[key], head, news)
                except CodecError:
                    view = None
                if view is not None and view.is_sound():
                    views[key] = view
                    self._views.put(key, view, len(view.held) + _VIEW_COST)
                elif base is not None:
                    from_nothing.append((key, head, None))
                else:
                    self._broken.put(key, raws[key])
            pending = from_nothing
        return views

    def expand(self, key: NodeKey, raw: bytes) -> Entries | None:
        """All entries for a head just read."""
        known = self._entries.get(key)
        if known is not None and known.raw == raw:
            return known
        head = self._head(key, raw)
        if head is None:
            return None
        parts = self._store.read_parts({route(key): _part_keys(key, head.parts)})
        try:
            entries = Entries(raw, head, _news(key, head, head.parts, parts))
        except CodecError:
            self._broken.put(key, raw)
            return None
        self._entries.put(key, entries, len(entries.files))
        return entries

    def _read(self, keys: Iterable[NodeKey]) -> dict[NodeKey, bytes]:
        routes = {route(key): key for key in keys}
        heads = self._store.read_heads(routes) if routes else {}
        return {routes[found]: raw for found, raw in heads.items()}

    def _head(self, key: NodeKey, raw: bytes) -> Head | None:
        known = self._heads.get(key)
        if known is not None and known[0] == raw:
            return known[1]
        try:
            head = decode_head(key, raw)
        except CodecError:
            return None
        self._heads.put(key, (raw, head))
        return head


def _base(known: View | None, head: Head) -> View | None:
    """The view to start from: the cached one if the new head may continue it, else None.

    If it does not really continue it, as after a flush, the sums do not match the head: see `View.is_sound`.
    """
    if known is None:
        return None
    held = known.head.parts
    return known if head.parts[: len(held)] == held else None


def _missing(base: View | None, head: Head) -> tuple[int, ...]:
    return head.parts[len(base.head.parts) :] if base else head.parts


def _part_keys(key: NodeKey, part_ids: Iterable[int]) -> list[str]:
    return [part_key(route(key), part_id) for part_id in part_ids]


def _news(
    key: NodeKey, head: Head, part_ids: Iterable[int], parts: Mapping[str, bytes]
) -> list[Records]:
    """The records of some parts and of the tail; raises `CodecError` if a part is missing."""
    news = []
    for part_id in part_ids:
        value = parts.get(part_key(route(key), part_id))
        if value is None:
            raise CodecError(f"part {part_id:x} is missing")
        news.append(decode_part(part_id, value))
    return [*news, decode_records(head.tail)]
