"""Caches, pins and coverage as the contract has them."""

from __future__ import annotations

from pandawn.filecatalog.v1 import coverage_pb2, filecatalog_pb2, pins_pb2
from pandawn_server.domain.catalog.inventory import CacheSummary, NodePins
from pandawn_server.usecases.catalog.coverage import Coverage
from pandawn_server.wire.edge.values import to_sum, to_timestamp


def to_cache(summary: CacheSummary) -> filecatalog_pb2.Cache:
    """A cache as the catalog knows it."""
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


def to_pins(pins: NodePins, *, believed: bool) -> pins_pb2.Pins:
    """What is pinned on a node."""
    return pins_pb2.Pins(
        site=pins.key.site,
        node=pins.key.node,
        file_count=pins.file_count,
        total_bytes=pins.total_bytes,
        update_time=to_timestamp(pins.update_time),
        believed=believed,
    )


def to_coverage(coverage: Coverage, max_nodes: int) -> coverage_pb2.GetCoverageResponse:
    """What the nodes of a site hold of a set of files; names up to `max_nodes` of them."""
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
