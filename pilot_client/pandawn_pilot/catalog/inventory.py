"""The files and the state of a cache, see `filecatalog.proto`."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

# Scope, LFN and version, which identify a file.
FileKey = tuple[str, str, str]


@dataclass(frozen=True)
class CachedFile:
    """A complete and verified file in a cache.

    A file that is not `listed` (a sandbox or library) is not reported to the catalog.
    """

    lfn: str
    size_bytes: int
    scope: str = ""
    guid: str = ""
    checksum: str = ""
    version: str = ""
    listed: bool = True

    @property
    def key(self) -> FileKey:
        """Scope, LFN and version."""
        return (self.scope, self.lfn, self.version)


@dataclass(frozen=True)
class CacheState:
    """The state of a cache: its epoch (not zero), the number of its last delta, its digest."""

    epoch: int
    sequence: int
    digest: int


def file_digest(file: CachedFile) -> int:
    """Digest of one file, an unsigned 64-bit number, by the formula in `filecatalog.proto`.

    The digest of a cache is the XOR over its files, so each change costs one XOR.
    """
    scope = file.scope.encode()
    lfn = file.lfn.encode()
    version = file.version.encode()
    parts = (
        len(scope).to_bytes(4, "big"),
        scope,
        len(lfn).to_bytes(4, "big"),
        lfn,
        len(version).to_bytes(4, "big"),
        version,
        file.size_bytes.to_bytes(8, "big"),
    )
    return int.from_bytes(sha256(b"".join(parts)).digest()[:8], "big")
