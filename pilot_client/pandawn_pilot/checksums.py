"""Checksums of files, written as `<algorithm>:<lower-case hex>` like in the contracts."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.stop import Stop

# Large enough that Python costs nothing beside the disk, small enough that a cancel is seen at
# once.
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileSums:
    """What reading a file once tells; `md5` is empty unless it was asked for."""

    size_bytes: int
    adler32: str
    md5: str = ""


def read_sums(path: Path, *, with_md5: bool = False, stop: Stop | None = None) -> FileSums:
    """Reads the whole file. Raises OSError, and StoppedError when `stop` is set meanwhile."""
    adler = 1
    size = 0
    md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            size += len(chunk)
            adler = zlib.adler32(chunk, adler)
            if md5 is not None:
                md5.update(chunk)
            if stop is not None:
                stop.check()
    return FileSums(
        size, f"adler32:{adler:08x}", f"md5:{md5.hexdigest()}" if md5 is not None else ""
    )


def wants_md5(checksum: str) -> bool:
    """Whether checking against `checksum` needs MD5."""
    return checksum.startswith("md5:")


def agrees(sums: FileSums, checksum: str) -> bool:
    """Whether the sums fit a checksum. An empty one and an unknown algorithm fit anything."""
    algorithm, _, value = checksum.partition(":")
    if algorithm == "adler32":
        # Some storage systems drop leading zeros.
        return sums.adler32 == f"adler32:{value.rjust(8, '0')}"
    if algorithm == "md5":
        return not sums.md5 or sums.md5 == checksum
    return True
