"""Contents of a node's cache, and how the catalog detects that it disagrees with the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import NamedTuple

from pandawn_server.domain.errors import NotFoundError

# The next two are tuples: each match makes and hashes thousands, in a third of the time of dataclasses.


class NodeKey(NamedTuple):
    """Identifies a cache by site and node; the node's name is in lower case."""

    site: str
    node: str


class FileRef(NamedTuple):
    """A file by LFN with its scope, or by GUID; exactly one of `lfn` and `guid` is not empty.

    Without a `version` it means all files of that name.
    """

    lfn: str = ""
    scope: str = ""
    guid: str = ""
    version: str = ""


FileId = tuple[str, str, str, int]
"""Identifies a file: scope, LFN, version and size in bytes."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file in a cache; `size_bytes` is its confirmed size.

    `version` is as in `domain.catalog.file_version`, empty if it is unknown which file of that name it is.
    """

    lfn: str
    size_bytes: int
    scope: str = ""
    guid: str = ""
    version: str = ""

    @property
    def file_id(self) -> FileId:
        """Its identity."""
        return (self.scope, self.lfn, self.version, self.size_bytes)


@dataclass(frozen=True, slots=True)
class CacheState:
    """State of a cache: its epoch (not zero), the number of its last change, and its digest."""

    epoch: int
    sequence: int
    digest: int


@dataclass(frozen=True, slots=True)
class CacheSummary:
    """The catalog's summary of a cache; `update_time` is the time of its last report.

    Files pinned on its node are counted separately from those that the cache reported. With epoch 0
    only pins are known.
    """

    key: NodeKey
    state: CacheState
    file_count: int
    total_bytes: int
    update_time: datetime
    pinned_count: int = 0
    pinned_bytes: int = 0

    def with_pins(self, count: int, size_bytes: int) -> CacheSummary:
        """A copy with these numbers of pinned files and bytes."""
        return replace(self, pinned_count=count, pinned_bytes=size_bytes)


@dataclass(frozen=True, slots=True)
class NodePins:
    """The pins of a node; `contact_time` is the last contact of the node or change of its pins.

    Each change sets a new `version`.
    """

    key: NodeKey
    version: int
    file_count: int
    total_bytes: int
    update_time: datetime
    contact_time: datetime


@dataclass(frozen=True, slots=True)
class Delta:
    """A change of one cache: files deleted, then files added (a file in both is held afterwards).

    With `epoch` 0 it is a direct change, which does not come from the cache: it has no sequence
    number and is always applied. A live cache overrides it: at its next contact its digest differs,
    and its inventory replaces the direct change. With an epoch, `sequence` must follow the last one applied.
    """

    key: NodeKey
    epoch: int
    sequence: int
    added: tuple[CachedFile, ...] = ()
    deleted: tuple[FileRef, ...] = ()


class DeltaResult(Enum):
    """What the catalog did with a delta."""

    APPLIED = "applied"
    REPEATED = "repeated"
    INVENTORY_REQUESTED = "inventory_requested"


@dataclass(frozen=True, slots=True)
class DeltaOutcome:
    """The result of a delta, and how many of the files to delete the catalog had."""

    result: DeltaResult
    deleted_count: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """All files of one cache in one epoch, listed after change number `sequence`."""

    key: NodeKey
    epoch: int
    sequence: int
    files: tuple[CachedFile, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """Number of files that the catalog wrongly had or lacked for a cache, and the sum of their sizes.

    A file with another version or size is another file.
    """

    files: int
    size_bytes: int


NO_DRIFT = Drift(0, 0)
"""The catalog was right, or had no entry for the cache."""


def file_digest(scope: str, lfn: str, version: str, size_bytes: int) -> int:
    """Digest of one file as an unsigned 64-bit number.

    The formula is part of the contract, see `pandawn/filecatalog/v1/filecatalog.proto`.
    """
    scope_utf8 = scope.encode()
    lfn_utf8 = lfn.encode()
    version_utf8 = version.encode()
    hashed = sha256(
        len(scope_utf8).to_bytes(4, "big")
        + scope_utf8
        + len(lfn_utf8).to_bytes(4, "big")
        + lfn_utf8
        + len(version_utf8).to_bytes(4, "big")
        + version_utf8
        + size_bytes.to_bytes(8, "big")
    )
    return int.from_bytes(hashed.digest()[:8], "big")


def inventory_digest(files: Iterable[CachedFile]) -> int:
    """Digest of a set of files: the XOR of the files' digests, so order does not matter and deltas are cheap."""
    digest = 0
    for file in files:
        digest ^= file_digest(file.scope, file.lfn, file.version, file.size_bytes)
    return digest


def delta_result(known: CacheState | None, delta: Delta) -> DeltaResult:
    """Decides what to do with a sequenced delta (`epoch` not 0), given the catalog's state of the cache.

    The first change of an unknown cache or new epoch is applied: the cache was empty before it.
    """
    if known is None or known.epoch != delta.epoch:
        return DeltaResult.APPLIED if delta.sequence == 1 else DeltaResult.INVENTORY_REQUESTED
    if delta.sequence <= known.sequence:
        return DeltaResult.REPEATED
    if delta.sequence == known.sequence + 1:
        return DeltaResult.APPLIED
    return DeltaResult.INVENTORY_REQUESTED


def node_not_found(key: NodeKey) -> NotFoundError:
    """The error for a cache that the catalog does not know."""
    return NotFoundError(
        "NODE_NOT_FOUND",
        f"the catalog knows no cache of node {key.node!r} at site {key.site!r}; "
        "give the node's full host name, as `pandawn nodes` lists it",
        metadata={"site": key.site, "node": key.node},
    )


def site_not_found(site: str) -> NotFoundError:
    """The error for a site without nodes."""
    return NotFoundError(
        "SITE_NOT_FOUND",
        f"no node of site {site!r} has ever reported; `pandawn nodes` lists the known nodes and their sites",
        metadata={"site": site},
    )
