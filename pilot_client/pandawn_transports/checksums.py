"""Checksums of files, as `<algorithm>:<lower-case hex>`, the contract's form."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pandawn_transports.stop import Stop

# Large enough to make Python's overhead negligible, small enough to react to a cancel at once.
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class FileSums:
    """Size and checksums of a file; `md5` and `sha256` are empty unless requested."""

    size_bytes: int
    adler32: str
    md5: str = ""
    sha256: str = ""


def read_sums(path: Path, checksums: Iterable[str] = (), *, stop: Stop | None = None) -> FileSums:
    """Reads the whole file; returns Adler-32 and checksums of the kinds in `checksums`.

    Raises OSError, and the error of `stop` when that is set meanwhile.
    """
    kinds = {_kind(checksum) for checksum in checksums}
    adler = 1
    size = 0
    md5 = hashlib.md5(usedforsecurity=False) if "md5" in kinds else None
    sha256 = hashlib.sha256() if "sha256" in kinds else None
    digests = [digest for digest in (md5, sha256) if digest is not None]
    for chunk in chunks_of(path):
        size += len(chunk)
        adler = zlib.adler32(chunk, adler)
        for digest in digests:
            digest.update(chunk)
        if stop is not None:
            stop.check()
    return FileSums(
        size,
        f"adler32:{adler:08x}",
        f"md5:{md5.hexdigest()}" if md5 is not None else "",
        f"sha256:{sha256.hexdigest()}" if sha256 is not None else "",
    )


def sha256_of(path: Path, count: Callable[[int], None]) -> str:
    """The SHA-256 of a file, as `sha256:<hex>`; `count` gets the number of bytes of each step. Raises OSError."""
    digest = hashlib.sha256()
    for chunk in chunks_of(path):
        digest.update(chunk)
        count(len(chunk))
    return f"sha256:{digest.hexdigest()}"


def chunks_of(path: Path) -> Iterator[bytes]:
    """The content of a file in chunks of at most CHUNK_BYTES. Raises OSError."""
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def tells(sums: FileSums, checksum: str) -> bool:
    """Whether the sums include the kind of a checksum; always true for an unknown kind."""
    return bool({"md5": sums.md5, "sha256": sums.sha256}.get(_kind(checksum), "-"))


def agrees(sums: FileSums, checksum: str) -> bool:
    """Whether the sums match a checksum. An empty one or an unknown algorithm matches anything."""
    algorithm, _, value = checksum.partition(":")
    if algorithm == "adler32":
        # Some storage systems drop leading zeros.
        return sums.adler32 == f"adler32:{value.rjust(8, '0')}"
    if algorithm == "md5":
        return sums.md5 == checksum
    if algorithm == "sha256":
        return sums.sha256 == checksum
    return True


def _kind(checksum: str) -> str:
    return checksum.partition(":")[0]
