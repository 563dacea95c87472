"""What is pinned on nodes, as one server process knows it.

The database has the pins, and `usecases.catalog.pins` brings them here: a pin is somebody's word that no
cache would repeat, so the store of the catalog, which may forget anything, is no place for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from pandawn_server.catalog.contents import HeldFiles, held_files, key_of, name_key
from pandawn_server.domain.catalog.inventory import CachedFile, FileRef, NodeKey

DEFAULT_PIN_SILENCE = timedelta(days=30)
"""How long a node may be silent before its pins are no longer believed: by then it is gone, as a
node under repair is not."""


@dataclass(frozen=True, slots=True, eq=False)
class PinnedFiles:
    """The pinned files of one node by name and by GUID; `version` (not 0) is another after each change."""

    version: int
    by_name: HeldFiles
    by_guid: HeldFiles
    total_bytes: int
    update_time: datetime

    @classmethod
    def of(cls, version: int, files: Iterable[CachedFile], update_time: datetime) -> PinnedFiles:
        """From the files themselves, of which it keeps keys and sizes."""
        known = {file.file_id: file for file in files}.values()
        by_name = held_files(
            _row(name_key(file.scope, file.lfn), file.version, file.size_bytes) for file in known
        )
        by_guid = held_files(
            {_row(_guid_key(f.guid), f.version, f.size_bytes) for f in known if f.guid}
        )
        return cls(version, by_name, by_guid, sum(by_name.sizes), update_time)

    def size(self, ref: FileRef) -> int | None:
        """Size in bytes of the largest file meant, by LFN or GUID, None if none is pinned."""
        if ref.lfn:
            return self.by_name.size(name_key(ref.scope, ref.lfn), ref.version)
        return self.by_guid.size(_guid_key(ref.guid), ref.version)


def _row(name: int, version: str, size_bytes: int) -> tuple[int, int, int]:
    return name, key_of(name, version, size_bytes), size_bytes


def _guid_key(guid: str) -> int:
    return hash(guid)


class PinBook:
    """The believed pins of all nodes. May be used by several threads at once."""

    def __init__(self, silence: timedelta = DEFAULT_PIN_SILENCE) -> None:
        """Pins of a node that was silent for longer than `silence` are not to be entered."""
        self.silence = silence
        # Held from reading the database to `replace`: of two who bring news, the later one is right.
        self.refreshing = Lock()
        self._nodes: Mapping[NodeKey, PinnedFiles] = {}

    @property
    def nodes(self) -> Mapping[NodeKey, PinnedFiles]:
        """All nodes with pins, as they are now: the mapping does not change later."""
        return self._nodes

    def replace(self, nodes: Mapping[NodeKey, PinnedFiles]) -> None:
        """Puts what the database says in the place of all that was known."""
        self._nodes = dict(nodes)
