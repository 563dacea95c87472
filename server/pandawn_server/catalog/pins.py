"""What is pinned on nodes, as one server process knows it.

The database has the pins, and `usecases.pins` brings them here: a pin is somebody's word that no
cache would repeat, so the store of the catalog, which may forget anything, is no place for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from pandawn_server.catalog.contents import HeldFiles, file_key, held_files
from pandawn_server.domain.inventory import CachedFile, FileRef, NodeKey

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
        names: dict[int, int] = {}
        guids: dict[int, int] = {}
        for file in files:
            names[file_key(file.scope, file.lfn)] = file.size_bytes
            if file.guid:
                guids[_guid_key(file.guid)] = file.size_bytes
        return cls(
            version,
            held_files(names.items()),
            held_files(guids.items()),
            sum(names.values()),
            update_time,
        )

    def size(self, ref: FileRef) -> int | None:
        """Size in bytes of a file by LFN or GUID, None if it is not pinned."""
        if ref.lfn:
            return self.by_name.size(file_key(ref.scope, ref.lfn))
        return self.by_guid.size(_guid_key(ref.guid))


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
