"""The calls of a cache to the catalog, with the cache's own types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Protocol

from pandawn.common.v1.common_pb2 import File, FileRef
from pandawn.filecatalog.v1 import filecatalog_pb2 as wire
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
from pandawn_client.calls import call, call_with_stream
from pandawn_pilot.catalog.inventory import CachedFile, CacheState

# The contract's bound on the files of one request or one message of a stream.
MAX_FILES_PER_MESSAGE = 10_000
# An inventory of a million files takes seconds to send and more to store.
INVENTORY_TIMEOUT_SECONDS = 300.0


class DeltaResult(Enum):
    """The catalog's response to a delta."""

    APPLIED = "applied"
    REPEATED = "repeated"
    INVENTORY_REQUESTED = "inventory requested"


class HasCatalog(Protocol):
    """A connection to the catalog; its stub may change between calls."""

    @property
    def catalog(self) -> FileCatalogStub:
        """The current stub."""
        ...


class CatalogClient:
    """The catalog for the cache of one node. All methods raise CallError."""

    def __init__(self, connection: HasCatalog, site: str, node: str) -> None:
        self.site = site
        self.node = node
        self._connection = connection

    @property
    def _stub(self) -> FileCatalogStub:
        return self._connection.catalog

    def add_files(self, epoch: int, sequence: int, files: Sequence[CachedFile]) -> DeltaResult:
        """Reports files that the cache now holds, as delta `sequence`."""
        request = wire.AddFilesRequest(
            site=self.site,
            node=self.node,
            epoch=epoch,
            sequence=sequence,
            files=[file_message(f) for f in files],
        )
        return _result(call(self._stub.AddFiles, request).result)

    def delete_files(self, epoch: int, sequence: int, files: Sequence[CachedFile]) -> DeltaResult:
        """Reports files that the cache no longer holds, as delta `sequence`."""
        references = [
            FileRef(lfn=file.lfn, scope=file.scope, version=file.version) for file in files
        ]
        request = wire.DeleteFilesRequest(
            site=self.site, node=self.node, epoch=epoch, sequence=sequence, files=references
        )
        return _result(call(self._stub.DeleteFiles, request).result)

    def report_inventory(
        self, epoch: int, sequence: int, digest: int, files: Sequence[CachedFile]
    ) -> int:
        """Replaces the catalog's list of the cache; returns how many files differed."""
        state = wire.CacheState(epoch=epoch, sequence=sequence, digest=digest)
        header = wire.InventoryHeader(site=self.site, node=self.node, state=state)

        def messages() -> Iterator[wire.ReportInventoryRequest]:
            yield wire.ReportInventoryRequest(header=header)
            for begin in range(0, len(files), MAX_FILES_PER_MESSAGE):
                share = files[begin : begin + MAX_FILES_PER_MESSAGE]
                yield wire.ReportInventoryRequest(files=[file_message(file) for file in share])

        response = call_with_stream(
            self._stub.ReportInventory, messages(), INVENTORY_TIMEOUT_SECONDS
        )
        return response.drift_count

    def cache_state(self) -> CacheState:
        """The cache's state in the catalog. Raises CallError NODE_NOT_FOUND for an unknown node."""
        state = call(
            self._stub.GetCache, wire.GetCacheRequest(site=self.site, node=self.node)
        ).cache.state
        return CacheState(state.epoch, state.sequence, state.digest)


def file_message(file: CachedFile) -> File:
    """A file as a message."""
    return File(
        lfn=file.lfn,
        scope=file.scope,
        guid=file.guid,
        size_bytes=file.size_bytes,
        checksum=file.checksum,
        version=file.version,
    )


def state_message(state: CacheState) -> wire.CacheState:
    """A cache's state as a message."""
    return wire.CacheState(epoch=state.epoch, sequence=state.sequence, digest=state.digest)


def _result(result: wire.DeltaResult.ValueType) -> DeltaResult:
    if result == wire.DELTA_RESULT_APPLIED:
        return DeltaResult.APPLIED
    if result == wire.DELTA_RESULT_REPEATED:
        return DeltaResult.REPEATED
    # Also for unknown values of a newer server: an inventory is always correct.
    return DeltaResult.INVENTORY_REQUESTED
