"""A catalog in memory that takes deltas by the server's own rule, and can lose calls and replies."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.client import CatalogClient, DeltaResult
from pandawn_pilot.catalog.inventory import CachedFile, CacheState, FileKey, file_digest
from pandawn_server.domain.catalog.inventory import CacheState as ServerState
from pandawn_server.domain.catalog.inventory import Delta, NodeKey, delta_result
from pandawn_server.domain.catalog.inventory import DeltaResult as ServerResult

_RESULTS = {
    ServerResult.APPLIED: DeltaResult.APPLIED,
    ServerResult.REPEATED: DeltaResult.REPEATED,
    ServerResult.INVENTORY_REQUESTED: DeltaResult.INVENTORY_REQUESTED,
}


class FakeCatalog(CatalogClient):
    """`faults` says for each coming call what becomes of it: lost, its reply lost, or nothing."""

    def __init__(self) -> None:
        super().__init__(None, "S", "wn01")  # type: ignore[arg-type]
        self.files: dict[FileKey, CachedFile] = {}
        self.known: ServerState | None = None
        self.faults: list[str] = []
        self.calls: list[str] = []

    def add_files(self, epoch: int, sequence: int, files: Sequence[CachedFile]) -> DeltaResult:
        return self._delta("add", epoch, sequence, files)

    def delete_files(self, epoch: int, sequence: int, files: Sequence[CachedFile]) -> DeltaResult:
        return self._delta("delete", epoch, sequence, files)

    def report_inventory(
        self, epoch: int, sequence: int, digest: int, files: Sequence[CachedFile]
    ) -> int:
        del digest
        fault = self._begin("inventory")
        drift = len({*self.files.values()} ^ {*files})
        self.files = {file.key: file for file in files}
        self._stand(epoch, sequence)
        self._end(fault)
        return drift

    def cache_state(self) -> CacheState:
        fault = self._begin("state")
        self._end(fault)
        if self.known is None:
            raise CallError(
                grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND", "no such cache", transient=False
            )
        return CacheState(self.known.epoch, self.known.sequence, self.known.digest)

    def forget(self) -> None:
        """Loses all that was known, like a memcached that was restarted."""
        self.files, self.known = {}, None

    def _delta(
        self, what: str, epoch: int, sequence: int, files: Sequence[CachedFile]
    ) -> DeltaResult:
        assert len({file.key for file in files}) == len(files) > 0
        fault = self._begin(what)
        delta = Delta(NodeKey(self.site, self.node), epoch, sequence)
        result = delta_result(self.known, delta)
        if result is ServerResult.APPLIED:
            if self.known is None or self.known.epoch != epoch:
                self.files = {}
            for file in files:
                if what == "add":
                    self.files[file.key] = file
                else:
                    self.files.pop(file.key, None)
            self._stand(epoch, sequence)
        self._end(fault)
        return _RESULTS[result]

    def _begin(self, what: str) -> str:
        self.calls.append(what)
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "call lost":
            raise lost()
        return fault

    def _end(self, fault: str) -> None:
        if fault == "reply lost":
            raise lost()

    def _stand(self, epoch: int, sequence: int) -> None:
        digest = 0
        for file in self.files.values():
            digest ^= file_digest(file)
        self.known = ServerState(epoch, sequence, digest)


def lost() -> CallError:
    return CallError(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "connection reset", transient=True)
