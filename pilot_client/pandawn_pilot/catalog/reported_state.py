"""Which changes of a cache the catalog has acknowledged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.catalog.inventory import CacheState
from pandawn_pilot.node.durable import replace_text

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Reported:
    """The catalog has acknowledged `sequence` deltas of the epoch, up to change `number`."""

    epoch: int
    sequence: int
    number: int
    digest: int

    @property
    def state(self) -> CacheState:
        """The same as a cache state."""
        return CacheState(self.epoch, self.sequence, self.digest)


def read_reported(path: Path) -> Reported | None:
    """Reads the state; None if it is not readable, which requires an inventory."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != FORMAT_VERSION:
            return None
        return Reported(
            epoch=int(document["epoch"], 16),
            sequence=int(document["sequence"]),
            number=int(document["number"]),
            digest=int(document["digest"], 16),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_reported(path: Path, reported: Reported) -> None:
    """Replaces the state. The caller must hold the reporting lock. Raises OSError."""
    document = {
        "version": FORMAT_VERSION,
        "epoch": f"{reported.epoch:016x}",
        "sequence": reported.sequence,
        "number": reported.number,
        "digest": f"{reported.digest:016x}",
    }
    replace_text(path, json.dumps(document))
