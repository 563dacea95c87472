"""One file in the node cache: where it lies, what is known of it, and whether it can be trusted.

An entry is a directory `files/<2 hex>/<40 hex>/` with the file, `data`, and `meta.json`. It is
made under another name and renamed, so it is complete or not there. Its time of last use is the
mtime of `meta.json`.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path

from pandawn_pilot.checksums import FileSums, agrees, read_sums, wants_md5
from pandawn_pilot.durable import replace_text
from pandawn_pilot.inventory import CachedFile, FileKey
from pandawn_pilot.stop import Stop

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Meta:
    """What was known of the data when it was last read: names, sums, and the marks of the inode.

    As long as inode, mtime and boot are the same, nobody has written to the data, and it need not
    be read. After a reboot it must be: the kernel may not have written it out before a power cut.
    """

    version: int
    lfn: str
    scope: str
    guid: str
    checksum: str
    size_bytes: int
    adler32: str
    md5: str
    inode: int
    mtime_ns: int
    boot: str

    def file(self) -> CachedFile:
        """The file as the catalog knows it."""
        return CachedFile(self.lfn, self.size_bytes, self.scope, self.guid, self.checksum)


class Entry:
    """The place of a file in a cache; the file may or may not be there."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.directory = root / "files" / name[:2] / name
        self.data = self.directory / "data"
        self.meta_path = self.directory / "meta.json"
        self.lock_path = root / "locks" / name[:2] / name

    @classmethod
    def of(cls, root: Path, key: FileKey) -> Entry:
        """The place of the file with that scope and LFN."""
        scope, lfn = (part.encode() for part in key)
        parts = len(scope).to_bytes(4, "big") + scope + len(lfn).to_bytes(4, "big") + lfn
        return cls(root, blake2b(parts, digest_size=20).hexdigest())

    def read_meta(self) -> Meta | None:
        """What is known of the file; None when it is not there or its description is damaged."""
        return read_meta(self.meta_path)

    def touch(self) -> None:
        """Notes that the file is used now."""
        now = time.time()
        os.utime(self.meta_path, (now, now))

    def why_unusable(self, wanted: CachedFile, stop: Stop) -> str | None:
        """Why the entry cannot serve as `wanted`; None when it can. Reads the data only if it must.

        To be called by the holder of the entry's lock.
        """
        meta = self.read_meta()
        if meta is None:
            return "its description is missing or damaged"
        try:
            status = self.data.stat()
        except FileNotFoundError:
            return "its data is missing"
        if meta.size_bytes != wanted.size_bytes:
            return f"it holds another version, of {meta.size_bytes} bytes"
        if status.st_size != meta.size_bytes:
            return f"its data has {status.st_size} bytes instead of {meta.size_bytes}"
        untouched = (status.st_ino, status.st_mtime_ns, boot_id()) == (
            meta.inode,
            meta.mtime_ns,
            meta.boot,
        )
        needs_md5 = wants_md5(wanted.checksum) and not meta.md5
        if untouched and not needs_md5:
            sums = FileSums(meta.size_bytes, meta.adler32, meta.md5)
        else:
            sums = read_sums(self.data, with_md5=needs_md5 or bool(meta.md5), stop=stop)
            if sums.adler32 != meta.adler32:
                return "its data was changed"
            again = describe(meta.file(), self.data, sums)
            replace_text(self.meta_path, again)
        if not agrees(sums, wanted.checksum):
            return f"it holds another version, with {sums.adler32}"
        return None


def read_meta(path: Path) -> Meta | None:
    """Reads a description; None when it is missing, damaged or of another version."""
    try:
        meta = Meta(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    return meta if meta.version == FORMAT_VERSION else None


def describe(file: CachedFile, data: Path, sums: FileSums) -> str:
    """The description of data that was read just now."""
    status = data.stat()
    confirmed = replace(file, size_bytes=sums.size_bytes, checksum=file.checksum or sums.adler32)
    meta = Meta(
        version=FORMAT_VERSION,
        lfn=confirmed.lfn,
        scope=confirmed.scope,
        guid=confirmed.guid,
        checksum=confirmed.checksum,
        size_bytes=confirmed.size_bytes,
        adler32=sums.adler32,
        md5=sums.md5,
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
