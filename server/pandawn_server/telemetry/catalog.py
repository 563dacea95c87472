"""Spans and metrics of the catalog: one per call, for any backend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pandawn_server.catalog.contents import Contents, Version
from pandawn_server.catalog.protocol import Catalog
from pandawn_server.catalog.store import Pulse
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    CacheSummary,
    Delta,
    DeltaOutcome,
    Drift,
    FileId,
    FileRef,
    Inventory,
    NodeKey,
)
from pandawn_server.telemetry.api import Observation, Telemetry
from pandawn_server.telemetry.names import (
    CATALOG,
    CATALOG_DRIFT_BYTES,
    CATALOG_DRIFT_FILES,
    CATALOG_ITEMS,
    CATALOG_OPERATION,
    DB_SYSTEM,
)


class ObservedCatalog:
    """A catalog that forwards each call to another and observes it."""

    def __init__(self, catalog: Catalog, system: str, telemetry: Telemetry) -> None:
        """`system` names the backend in spans: `memory`, `memcached`."""
        self._catalog = catalog
        self._system = system
        self._telemetry = telemetry

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """See `Catalog`."""
        with self._observe("apply", len(deltas)):
            return self._catalog.apply(deltas, now)

    def replace(self, inventory: Inventory, now: datetime) -> Drift:
        """See `Catalog`."""
        with self._observe("replace", len(inventory.files)):
            drift = self._catalog.replace(inventory, now)
        self._telemetry.record(CATALOG_DRIFT_FILES, drift.files)
        self._telemetry.record(CATALOG_DRIFT_BYTES, drift.size_bytes)
        return drift

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """See `Catalog`."""
        with self._observe("flush", 1):
            return self._catalog.flush(key, epoch, now)

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """See `Catalog`."""
        with self._observe("touch", len(states)):
            return self._catalog.touch(states, now)

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[int | None] | None]:
        """See `Catalog`."""
        with self._observe("holdings", len(queries)):
            return self._catalog.holdings(queries)

    def contents(self, known: Sequence[tuple[NodeKey, Version | None]]) -> list[Contents | None]:
        """See `Catalog`."""
        with self._observe("contents", len(known)):
            return self._catalog.contents(known)

    def meet(
        self, callers: Sequence[tuple[NodeKey, Version | None, CacheState]], now: datetime
    ) -> list[tuple[Contents | None, bool]]:
        """See `Catalog`."""
        with self._observe("meet", len(callers)):
            return self._catalog.meet(callers, now)

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """See `Catalog`."""
        with self._observe("summaries", len(keys)):
            return self._catalog.summaries(keys)

    def list_files(self, key: NodeKey, after: FileId | None, limit: int) -> list[CachedFile] | None:
        """See `Catalog`."""
        with self._observe("list_files", 1):
            return self._catalog.list_files(key, after, limit)

    def unreachable(self) -> list[str]:
        """See `Catalog`."""
        with self._observe("unreachable", 1):
            return self._catalog.unreachable()

    def pulse(self) -> Pulse:
        """See `Catalog`."""
        with self._observe("pulse", 1):
            return self._catalog.pulse()

    def close(self) -> None:
        """See `Catalog`."""
        self._catalog.close()

    def _observe(self, operation: str, items: int) -> Observation:
        return self._telemetry.observe(
            CATALOG,
            f"catalog {operation}",
            {
                DB_SYSTEM: self._system,
                CATALOG_OPERATION: operation,
                CATALOG_ITEMS: items,
            },
        )
