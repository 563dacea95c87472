"""Fills the catalog in memcached with the files of many nodes, with the server's own code for values and stores."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from pandawn_server.catalog.codec import Head, Record, encode_head, encode_part, encode_records
from pandawn_server.catalog.draft import random_id
from pandawn_server.catalog.member import Timeouts
from pandawn_server.catalog.memcached import MemcachedStore
from pandawn_server.catalog.store import Stored, part_key, route_of
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey, file_digest
from pandawn_tools.bench.processes import LOOPBACK, BenchError
from pandawn_tools.bench.workload import (
    HOT_PER_NODE,
    SCOPE,
    SITE,
    BenchFile,
    group,
    groups_of,
    hot_files,
    node_name,
)

_SILENCE = timedelta(hours=24)
_TIMEOUTS = Timeouts(connect=timedelta(seconds=5), answer=timedelta(seconds=30))
_ROUTES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and the state of its cache."""

    number: int
    name: str
    state: CacheState


@dataclass(frozen=True, slots=True)
class _Group:
    part_id: int
    records: bytes
    value: bytes
    digest: int
    files: int
    total_bytes: int


def fill_catalog(port: int, nodes: int, datasets: int) -> list[Node]:
    """Writes the files of each node, in parts as after some deltas; returns the nodes.

    Raises `BenchError` if memcached is too small.
    """
    now = datetime.now(UTC)
    store = MemcachedStore([(LOOPBACK, port)], _SILENCE, _TIMEOUTS)
    written = []
    try:
        for start in range(0, nodes, _ROUTES_AT_ONCE):
            keys = [
                NodeKey(SITE, node_name(number))
                for number in range(start, min(nodes, start + _ROUTES_AT_ONCE))
            ]
            slots = store.open_heads([route_of(key) for key in keys])
            for number, key in enumerate(keys, start):
                held = [_group(*place) for place in groups_of(number, datasets)]
                head = _head(key, held, _hot(), now)
                route = route_of(key)
                token = slots[route].token
                parts = {part_key(route, one.part_id): one.value for one in held}
                results = (
                    store.write_parts(route, token, parts),
                    store.write_head(route, token, encode_head(head)),
                )
                if results != (Stored.DONE, Stored.DONE):
                    raise BenchError(f"memcached did not take what node {number} holds: {results}")
                written.append(Node(number, key.node, head.state))
    finally:
        store.close()
    return written


@cache
def _group(dataset: int, variant: int) -> _Group:
    return _encoded(group(dataset, variant))


@cache
def _hot() -> _Group:
    return _encoded(hot_files()[:HOT_PER_NODE])


def _encoded(files: Sequence[BenchFile]) -> _Group:
    # A part is packed once and stored for all nodes with these files: its key starts with the node, so
    # that its id need not differ between nodes.
    part_id = random_id()
    records = encode_records(
        [Record(SCOPE, file.lfn, file.guid, file.version, file.size_bytes) for file in files]
    )
    digest = 0
    for file in files:
        digest ^= file_digest(SCOPE, file.lfn, file.version, file.size_bytes)
    return _Group(
        part_id,
        records,
        encode_part(part_id, records),
        digest,
        len(files),
        sum(file.size_bytes for file in files),
    )


def _head(key: NodeKey, held: Sequence[_Group], newest: _Group, now: datetime) -> Head:
    """The head of a node; the latest files are in the head itself and not yet in a part."""
    digest = newest.digest
    for one in held:
        digest ^= one.digest
    files = sum(one.files for one in held)
    return Head(
        key=key,
        state=CacheState(1 + secrets.randbelow(2**63), len(held) + 1, digest),
        update_time=now,
        file_count=files + newest.files,
        total_bytes=sum(one.total_bytes for one in held) + newest.total_bytes,
        part_records=files,
        appended=len(held),
        parts=tuple(one.part_id for one in held),
        tail=newest.records,
    )
