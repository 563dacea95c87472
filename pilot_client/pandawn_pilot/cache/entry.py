"""One file in the node cache: its path, its metadata, and whether it is still valid.

An entry is a directory `files/<2 hex>/<40 hex>/` with the file, `data`, and `meta.json`. It is
created under another name and renamed, so it is complete or absent. Its time of last use is the mtime
of `meta.json`. Sandboxes and libraries are below `code/` in the same form; they are not reported to the
catalog.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path

from pandawn_client.file_version import VersionKind, parse_version
from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.stop import Stop
from pandawn_transports.base import SourceStat
from pandawn_transports.checksums import FileSums, agrees, read_sums, tells

# Entries of format 1 have no version and cannot be used.
FORMAT = 2
FILES, CODE = "files", "code"
# Kinds of versions that do not prove the content: the source must be unchanged.
_BY_SOURCE = frozenset({VersionKind.ADLER32, VersionKind.MD5, VersionKind.MODIFY_TIME})


@dataclass(frozen=True)
class Arrival:
    """A fetched file: the checksums of its content, and its source at that time, if known."""

    sums: FileSums
    source: SourceStat | None = None


@dataclass(frozen=True)
class Meta:
    """Metadata from when the data was last read: names, checksums, inode, mtime and boot.

    While inode, mtime and boot are the same, the data is unchanged and need not be read. After a reboot
    it must be, as a power cut may have lost writes. `source` is the state of the source when the file was
    fetched.
    """

    format: int
    lfn: str
    scope: str
    guid: str
    checksum: str
    version: str
    size_bytes: int
    adler32: str
    md5: str
    sha256: str
    source: SourceStat | None
    inode: int
    mtime_ns: int
    boot: str

    def file(self) -> CachedFile:
        """The file as the catalog knows it."""
        return CachedFile(
            self.lfn, self.size_bytes, self.scope, self.guid, self.checksum, self.version
        )

    def sums(self) -> FileSums:
        """The checksums of the data."""
        return FileSums(self.size_bytes, self.adler32, self.md5, self.sha256)


class Entry:
    """The paths of a file in a cache; the file need not exist."""

    def __init__(self, root: Path, name: str, top: str = FILES) -> None:
        self.name = name
        self.top = top
        self.directory = root / top / name[:2] / name
        self.data = self.directory / "data"
        self.meta_path = self.directory / "meta.json"
        self.lock_path = root / "locks" / name[:2] / name

    @classmethod
    def of(cls, root: Path, key: FileKey, top: str = FILES) -> Entry:
        """The entry of the file with this scope, LFN and version."""
        parts = [part.encode() for part in key]
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return cls(root, blake2b(text, digest_size=20, person=top.encode()).hexdigest(), top)

    def read_meta(self) -> Meta | None:
        """The metadata; None if it is missing or damaged."""
        return read_meta(self.meta_path)

    def touch(self) -> None:
        """Sets the time of last use to now."""
        now = time.time()
        os.utime(self.meta_path, (now, now))

    def age(self) -> None:
        """Makes the file the first to be evicted, as its source has changed."""
        os.utime(self.meta_path, (0, 0))

    def why_unusable(self, wanted: CachedFile, source: SourceStat | None, stop: Stop) -> str | None:
        """Why the entry is not valid for `wanted`; None if it is. Reads the data only if necessary.

        `source` is the current state of the source. The caller must hold the entry's lock. Raises OSError
        for data that cannot be read.
        """
        meta = self.read_meta()
        if meta is None or meta.file().key != wanted.key:
            return "its metadata is missing or damaged"
        try:
            status = self.data.stat()
        except FileNotFoundError:
            return "its data is missing"
        if meta.size_bytes != wanted.size_bytes:
            return f"it holds another version, of {meta.size_bytes} bytes"
        if status.st_size != meta.size_bytes:
            return f"its data has {status.st_size} bytes instead of {meta.size_bytes}"
        if rests_on_source(wanted.version) and (source is None or source != meta.source):
            return "its source has changed"
        checksums = proofs(wanted)
        sums = meta.sums()
        untouched = (status.st_ino, status.st_mtime_ns, boot_id()) == (
            meta.inode,
            meta.mtime_ns,
            meta.boot,
        )
        if not untouched or not all(tells(sums, checksum) for checksum in checksums):
            sums = read_sums(self.data, [*checksums, meta.md5, meta.sha256], stop=stop)
            if not all(agrees(sums, known) for known in (meta.adler32, meta.md5, meta.sha256)):
                return "its data was changed"
            again = describe(meta.file(), self.data, Arrival(sums, meta.source))
            replace_text(self.meta_path, again)
        if not all(agrees(sums, checksum) for checksum in checksums):
            return f"it holds another version, with {sums.adler32}"
        return None


def proofs(wanted: CachedFile) -> list[str]:
    """The checksums that the content must have: the task's, and the one in its version."""
    version = parse_version(wanted.version)
    return [checksum for checksum in (wanted.checksum, version.checksum) if checksum]


def rests_on_source(version: str) -> bool:
    """Whether a cached file of this version is valid only while its source is unchanged."""
    return parse_version(version).kind in _BY_SOURCE


def read_meta(path: Path) -> Meta | None:
    """Reads the metadata; None if it is missing, damaged or of another format."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            return None
        source = fields.pop("source")
        meta = Meta(**fields, source=None if source is None else SourceStat(**source))
        parse_version(meta.version)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None
    return meta


def describe(file: CachedFile, data: Path, arrival: Arrival) -> str:
    """The metadata, as JSON, of data that was just read."""
    status = data.stat()
    sums = arrival.sums
    confirmed = replace(file, size_bytes=sums.size_bytes, checksum=file.checksum or sums.adler32)
    meta = Meta(
        format=FORMAT,
        lfn=confirmed.lfn,
        scope=confirmed.scope,
        guid=confirmed.guid,
        checksum=confirmed.checksum,
        version=confirmed.version,
        size_bytes=confirmed.size_bytes,
        adler32=sums.adler32,
        md5=sums.md5,
        sha256=sums.sha256,
        source=arrival.source,
        inode=status.st_ino,
        mtime_ns=status.st_mtime_ns,
        boot=boot_id(),
    )
    return json.dumps(asdict(meta), ensure_ascii=False)


@cache
def boot_id() -> str:
    """The identifier of the machine's current boot; empty if the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
