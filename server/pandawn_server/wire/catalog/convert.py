"""Conversion of caches, pins and coverage to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import coverage_pb2, filecatalog_pb2, lookup_pb2, pins_pb2
from pandawn_server.domain.catalog.inventory import CachedFile, CacheSummary, NodePins
from pandawn_server.domain.dispatch.reply_size import LIST_BYTES
from pandawn_server.usecases.catalog.coverage import Coverage
from pandawn_server.wire.edge.values import to_cached_file, to_sum, to_timestamp

_NAME_BYTES = 3
"""Bytes of the tag and the length of a name in a message."""


def to_cache(summary: CacheSummary) -> filecatalog_pb2.Cache:
    """The message for the catalog's summary of a cache; without a state if only pins are known."""
    cache = filecatalog_pb2.Cache(
        site=summary.key.site,
        node=summary.key.node,
        file_count=summary.file_count,
        total_bytes=to_sum(summary.total_bytes),
        update_time=to_timestamp(summary.update_time),
        pinned_count=summary.pinned_count,
        pinned_bytes=to_sum(summary.pinned_bytes),
    )
    state = summary.state
    if state.epoch:
        cache.state.epoch, cache.state.sequence = state.epoch, state.sequence
        cache.state.digest = state.digest
    return cache


def to_node_file(found: tuple[CachedFile, bool]) -> lookup_pb2.NodeFile:
    """The message for a file of a node and whether it is pinned."""
    file, is_pinned = found
    return lookup_pb2.NodeFile(file=to_cached_file(file), pinned=is_pinned)


def to_locations(
    asked: Sequence[common_pb2.FileRef], found: Sequence[Mapping[str, int]]
) -> lookup_pb2.LocateFilesResponse:
    """The reply to `LocateFiles`: each node in `found` has the file's size; nodes that do not fit are left out."""
    locations = [
        lookup_pb2.FileLocation(
            file=ref, size_bytes=max(sizes.values(), default=0), node_count=len(sizes)
        )
        for ref, sizes in zip(asked, found, strict=True)
    ]
    room = LIST_BYTES - sum(location.ByteSize() + 8 for location in locations)
    # Files on the fewest nodes come first, so that the others get the rest of their share.
    places = sorted(range(len(found)), key=lambda at: len(found[at]))
    for files_left, at in zip(range(len(places), 0, -1), places, strict=True):
        share = room // files_left
        for node in sorted(found[at]):
            share -= len(node) + _NAME_BYTES
            if share < 0:
                break
            room -= len(node) + _NAME_BYTES
            locations[at].nodes.append(node)
    return lookup_pb2.LocateFilesResponse(locations=locations)


def to_pins(found: tuple[NodePins, bool]) -> pins_pb2.Pins:
    """The message for the pins of a node and whether they still count."""
    pins, believed = found
    return pins_pb2.Pins(
        site=pins.key.site,
        node=pins.key.node,
        file_count=pins.file_count,
        total_bytes=pins.total_bytes,
        update_time=to_timestamp(pins.update_time),
        believed=believed,
    )


def to_coverage(coverage: Coverage, max_nodes: int) -> coverage_pb2.GetCoverageResponse:
    """The reply with coverage, which names up to `max_nodes` nodes."""
    return coverage_pb2.GetCoverageResponse(
        site=coverage.site,
        file_count=coverage.total.files,
        total_bytes=to_sum(coverage.total.size_bytes),
        copies=[
            coverage_pb2.Copies(
                node_count=count, file_count=amount.files, total_bytes=to_sum(amount.size_bytes)
            )
            for count, amount in coverage.copies.items()
        ],
        nodes=[
            coverage_pb2.NodeShare(
                node=node, file_count=amount.files, total_bytes=to_sum(amount.size_bytes)
            )
            for node, amount in coverage.shares[:max_nodes]
        ],
        node_count=len(coverage.shares),
    )
