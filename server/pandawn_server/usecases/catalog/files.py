"""Writes of caches and administrators to the catalog, and everybody's queries."""

from __future__ import annotations

from collections.abc import Sequence

from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheSummary,
    Delta,
    DeltaOutcome,
    Drift,
    FileId,
    FileRef,
    Inventory,
    NodeKey,
    node_not_found,
    site_not_found,
)
from pandawn_server.domain.errors import PandawnError
from pandawn_server.storage import requests
from pandawn_server.storage.leases import nodes
from pandawn_server.storage.requests import Answer, RequestKey
from pandawn_server.usecases.catalog.pins import pinned_files
from pandawn_server.usecases.context import Context


def write_deltas(context: Context, deltas: Sequence[Delta]) -> list[DeltaOutcome | PandawnError]:
    """Applies changes of many caches in one round trip; one answer each, in order.

    Raises `UnavailableError` (CATALOG_UNAVAILABLE). An answer is `NotFoundError` (NODE_NOT_FOUND) for a
    deletion without an epoch from an unknown cache.
    """
    now = context.clock()
    outcomes: list[DeltaOutcome | PandawnError] = []
    unknown = _unknown_targets(context, deltas)
    applied = iter(
        context.catalog.apply(
            [d for d in deltas if d.key not in unknown or d.epoch or d.added], now
        )
    )
    for delta in deltas:
        if delta.key in unknown and not delta.epoch and not delta.added:
            outcomes.append(node_not_found(delta.key))
        else:
            outcomes.append(next(applied))
    written = {delta.key for delta in deltas if delta.key not in unknown or delta.added}
    context.desks.nodes_changed(written)
    _record_nodes(context, written)
    return outcomes


def _unknown_targets(context: Context, deltas: Sequence[Delta]) -> set[NodeKey]:
    keys = sorted({delta.key for delta in deltas if not delta.epoch and not delta.added})
    if not keys:
        return set()
    summaries = context.catalog.summaries(keys)
    return {key for key, summary in zip(keys, summaries, strict=True) if not _has_cache(summary)}


def _has_cache(summary: CacheSummary | None) -> bool:
    """Whether the node has a known cache, and not only pins."""
    return summary is not None and summary.state.epoch != 0


def _record_nodes(context: Context, keys: set[NodeKey]) -> None:
    # Nodes are listed from the database; a cache may report before any pilot of its node registers.
    if not keys:
        return
    with context.db.read() as tx:
        known = nodes.get_nodes(tx, keys)
    new = keys - known.keys()
    if new:
        with context.db.write() as tx:
            nodes.record_contact(tx, new, context.clock())


def begin_epoch(context: Context, key: NodeKey, epoch: int) -> int:
    """Starts `epoch` after a cache was emptied; returns files dropped, 0 if it had already started."""
    summary = context.catalog.summaries([key])[0]
    if summary is not None and summary.state.epoch == epoch:
        return 0
    forgotten = context.catalog.flush(key, epoch, context.clock())
    context.desks.nodes_changed([key])
    _record_nodes(context, {key})
    return forgotten or 0


def flush_cache(context: Context, key: NodeKey, request_id: str, by: Principal) -> tuple[int, int]:
    """Empties a cache's entry for somebody else; returns files dropped and the new epoch, which is random.

    The same `request_id` returns the same answer.

    Raises `NotFoundError` (NODE_NOT_FOUND) for an unknown cache, and `ConflictError` (REQUEST_ID_REUSED).
    """
    request = RequestKey(by.name, request_id, f"flush {key.site} {key.node}")
    with context.db.read() as tx:
        answer = requests.get_answer(tx, request)
    if answer is None:
        if not _has_cache(context.catalog.summaries([key])[0]):
            raise node_not_found(key)
        epoch = context.rng.getrandbits(63) + 1
        made = Answer(0, (begin_epoch(context, key, epoch), epoch))
        with context.db.write() as tx:
            # Two concurrent calls may both have emptied it: harmless, and both get one answer.
            answer = requests.get_answer(tx, request)
            if answer is None:
                answer = made
                requests.insert_answer(tx, request, answer, context.clock())
    forgotten, epoch = answer.numbers
    return forgotten, epoch


def replace_inventory(context: Context, inventory: Inventory) -> Drift:
    """Replaces a node's inventory; returns how wrong the catalog was."""
    drift = context.catalog.replace(inventory, context.clock())
    context.desks.nodes_changed([inventory.key])
    _record_nodes(context, {inventory.key})
    return drift


def check_files(
    context: Context, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
) -> list[list[int | None] | PandawnError]:
    """For each cache the files' sizes in bytes, None if not held; or `NotFoundError` (NODE_NOT_FOUND)."""
    answers = context.catalog.holdings(queries)
    return [
        node_not_found(key) if answer is None else answer
        for (key, _), answer in zip(queries, answers, strict=True)
    ]


def locate_files(context: Context, site: str, refs: Sequence[FileRef]) -> list[dict[str, int]]:
    """For each file its size in bytes on the nodes of a site that hold it, by node name.

    Raises `NotFoundError` (SITE_NOT_FOUND).
    """
    with context.db.read() as tx:
        keys = nodes.site_nodes(tx, site)
    if not keys:
        raise site_not_found(site)
    found: list[dict[str, int]] = [{} for _ in refs]
    for key, answer in zip(keys, context.catalog.holdings([(k, refs) for k in keys]), strict=True):
        for position, size_bytes in enumerate(answer or ()):
            if size_bytes is not None:
                found[position][key.node] = size_bytes
    return found


def list_files(
    context: Context,
    key: NodeKey,
    after: FileId | None,
    limit: int,
    *,
    pinned_only: bool = False,
) -> list[tuple[CachedFile, bool]]:
    """Up to `limit` files of a node after `after`, each with whether it is pinned.

    Raises `NotFoundError` (NODE_NOT_FOUND) if the node has neither a known cache nor a pin.
    """
    cached = None if pinned_only else context.catalog.list_files(key, after, limit)
    pinned = {file.file_id: file for file in pinned_files(context, key)}
    if cached is None and not pinned:
        raise node_not_found(key)
    found = {one: file for one, file in pinned.items() if after is None or one > after}
    found.update((file.file_id, file) for file in cached or ())
    return [(found[one], one in pinned) for one in sorted(found)[:limit]]


def get_cache(context: Context, key: NodeKey) -> CacheSummary:
    """The state of a cache. Raises `NotFoundError` (NODE_NOT_FOUND)."""
    summary = context.catalog.summaries([key])[0]
    if summary is None:
        raise node_not_found(key)
    return summary
