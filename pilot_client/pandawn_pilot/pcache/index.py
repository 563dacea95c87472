"""The result of the last scan of a pcache, so that the next one skips what has not changed.

Only an optimization: it is compared with the tree, and if it is lost, all is scanned again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pandawn_pilot.catalog.file_names import Naming
from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.pcache.names import Names

FORMAT_VERSION = 2


class Row(NamedTuple):
    """One file of the tree. The first four fields identify its state: if they are equal, it is unchanged.

    A plain tuple, as 100,000 of them are read at each start. `entry_ns` is the mtime of the file's
    directory, 0 if it is not reliable. The LFN is empty if the catalog does not accept the name.
    """

    entry_ns: int
    inode: int
    data_ns: int
    size_bytes: int
    lfn: str = ""
    scope: str = ""
    guid: str = ""
    version: str = ""

    @property
    def key(self) -> FileKey:
        """Scope, LFN and version."""
        return (self.scope, self.lfn, self.version)

    @property
    def file(self) -> CachedFile:
        """The file as the catalog knows it."""
        return CachedFile(self.lfn, self.size_bytes, self.scope, self.guid, version=self.version)

    def named(self, names: Names | None) -> Row:
        """The same file with its names."""
        if names is None:
            return self
        return self._replace(
            lfn=names.lfn, scope=names.scope, guid=names.guid, version=names.version
        )


@dataclass
class Index:
    """Files by path, mtimes of the directories above them, and the naming.

    `position` is the journal's position, epoch and number, when it agreed with the files.
    """

    naming: Naming
    rows: dict[str, Row] = field(default_factory=dict)
    directories: dict[str, int] = field(default_factory=dict)
    position: tuple[int, int] = (0, 0)
    # By time.time(): when each file was checked, not only the directories.
    deep_time: float = 0.0


def read_index(path: Path) -> Index | None:
    """Reads the index; None when it is missing, damaged or of another version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != FORMAT_VERSION:
            return None
        epoch, number = document["position"]
        return Index(
            naming=Naming(int(document["lfn_depth"]), bool(document["rucio"])),
            rows={place: Row(*marks) for place, marks in document["rows"].items()},
            directories={str(place): int(time) for place, time in document["directories"].items()},
            position=(int(epoch), int(number)),
            deep_time=float(document["deep_time"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_index(path: Path, index: Index) -> None:
    """Replaces the index. The caller must hold the books' lock. Raises OSError."""
    document = {
        "version": FORMAT_VERSION,
        "lfn_depth": index.naming.lfn_depth,
        "rucio": index.naming.rucio,
        "position": index.position,
        "deep_time": index.deep_time,
        "directories": index.directories,
        "rows": index.rows,
    }
    # As ASCII: bytes of a path that are not UTF-8 become lone surrogates in JSON.
    replace_text(path, json.dumps(document))
