"""One file in the node cache: where it lies, what is known of it, and whether it can be trusted.

An entry is a directory `files/<2 hex>/<40 hex>/` with the file, `data`, and `meta.json`. It is
made under another name and renamed, so it is complete or not there. Its time of last use is the
mtime of `meta.json`. Users' code lies below `code/` in the same way: it is nobody's input, and the
catalog is not told of it.
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

# Entries of format 1 did not say which version they hold, and serve nobody.
FORMAT = 2
FILES, CODE = "files", "code"
# Versions that say nothing of the content, or too little: the source must be as it was.
_BY_SOURCE = frozenset({VersionKind.ADLER32, VersionKind.MD5, VersionKind.MODIFY_TIME})


@dataclass(frozen=True)
class Arrival:
    """How a file arrived: the sums of its content, and what its storage said of it then, if asked."""

    sums: FileSums
    source: SourceStat | None = None


@dataclass(frozen=True)
class Meta:
    """What was known of the data when it was last read: names, sums, and the marks of the inode.

    As long as inode, mtime and boot are the same, nobody has written to the data, and it need not
    be read. After a reboot it must be: the kernel may not have written it out before a power cut.
    `source` is what its storage said of the file that was fetched.
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
        """The sums of the data."""
        return FileSums(self.size_bytes, self.adler32, self.md5, self.sha256)


class Entry:
    """The place of a file in a cache; the file may or may not be there."""

    def __init__(self, root: Path, name: str, top: str = FILES) -> None:
        self.name = name
        self.top = top
        self.directory = root / top / name[:2] / name
        self.data = self.directory / "data"
        self.meta_path = self.directory / "meta.json"
        self.lock_path = root / "locks" / name[:2] / name

    @classmethod
    def of(cls, root: Path, key: FileKey, top: str = FILES) -> Entry:
        """The place of the file with that scope, LFN and version."""
        parts = [part.encode() for part in key]
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return cls(root, blake2b(text, digest_size=20, person=top.encode()).hexdigest(), top)

    def read_meta(self) -> Meta | None:
        """What is known of the file; None when it is not there or its description is damaged."""
        return read_meta(self.meta_path)

    def touch(self) -> None:
        """Notes that the file is used now."""
        now = time.time()
        os.utime(self.meta_path, (now, now))

    def age(self) -> None:
        """Lets the file be the first to go: its source has become another."""
        os.utime(self.meta_path, (0, 0))

    def why_unusable(self, wanted: CachedFile, source: SourceStat | None, stop: Stop) -> str | None:
        """Why the entry cannot serve as `wanted`; None when it can. Reads the data only if it must.

        `source` is what the storage says of the file now. To be called by the holder of the entry's
        lock. Raises OSError for data that cannot be read.
        """
        meta = self.read_meta()
        if meta is None or meta.file().key != wanted.key:
            return "its description is missing or damaged"
        try:
            status = self.data.stat()
        except FileNotFoundError:
            return "its data is missing"
        if meta.size_bytes != wanted.size_bytes:
            return f"it holds another version, of {meta.size_bytes} bytes"
        if status.st_size != meta.size_bytes:
            return f"its data has {status.st_size} bytes instead of {meta.size_bytes}"
        if rests_on_source(wanted.version) and (source is None or source != meta.source):
            return "its source is not as it was"
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
    """The checksums that the content of a file must have: the task's, and that in its version."""
    version = parse_version(wanted.version)
    return [checksum for checksum in (wanted.checksum, version.checksum) if checksum]


def rests_on_source(version: str) -> bool:
    """Whether a file is of that version only as long as its source is as it was."""
    return parse_version(version).kind in _BY_SOURCE


def read_meta(path: Path) -> Meta | None:
    """Reads a description; None when it is missing, damaged or of another format."""
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
    """The description of data that was read just now."""
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
    """Names the time since the machine was switched on; empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
