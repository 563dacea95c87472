"""Copies the bytes of an open file: keeps holes, and computes checksums in the same pass."""

from __future__ import annotations

import errno
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator

# Small enough that a slow copy can be cancelled soon, and shows progress.
CHUNK_BYTES = 4 * 1024 * 1024
# The unit of st_blocks, independent of the file system.
_BLOCK_BYTES = 512
_ADLER_MODULUS = 65521
# Linux sets times of files by its timer, at least a hundred times a second ...
_TICK_NS = 20_000_000
# ... and some storages by whole seconds.
_COARSE_TICK_NS = 1_000_000_000


class SourceError(OSError):
    """An error of the source; other OSErrors of a copy concern the destination."""


class Sums:
    """Adler-32 of the bytes fed so far, and SHA-256 if requested."""

    def __init__(self, *, with_sha256: bool = False) -> None:
        self._adler = 1
        self._sha256 = hashlib.sha256() if with_sha256 else None

    def feed(self, chunk: bytes) -> None:
        """Adds the next bytes."""
        self._adler = zlib.adler32(chunk, self._adler)
        if self._sha256 is not None:
            self._sha256.update(chunk)

    def feed_zeros(self, count: int) -> None:
        """Adds `count` zeros, as for a hole."""
        # By definition of Adler-32: each zero adds the low sum to the high one.
        high, low = self._adler >> 16, self._adler & 0xFFFF
        self._adler = (high + count * low) % _ADLER_MODULUS << 16 | low
        if self._sha256 is not None:
            zeros = bytes(min(count, CHUNK_BYTES))
            while count > 0:
                self._sha256.update(zeros[: min(count, len(zeros))])
                count -= len(zeros)

    @property
    def adler32(self) -> str:
        """As `adler32:<hex>`."""
        return f"adler32:{self._adler:08x}"

    @property
    def sha256(self) -> str:
        """As `sha256:<hex>`; empty unless requested."""
        return "" if self._sha256 is None else f"sha256:{self._sha256.hexdigest()}"


def copy_bytes(
    reader: int, writer: int, on_chunk: Callable[[int], None], sums: Sums | None = None
) -> int:
    """Copies the file at `reader` to the one at `writer`; returns the number of bytes.

    `on_chunk` gets the position before each chunk, and may end the copy by raising. Raises SourceError for
    errors of the source, OSError for errors of the copy.
    """
    position = 0
    for begin, end in _data_ranges(reader, writer):
        if sums is not None:
            sums.feed_zeros(begin - position)
        position = _copy_range(reader, writer, begin, end, on_chunk, sums)
    # Instead of O_TRUNC at open: the cache has allocated the blocks.
    os.ftruncate(writer, position)
    return position


def sum_bytes(reader: int, on_chunk: Callable[[int], None], sums: Sums) -> int:
    """Feeds an open file to the sums; returns the number of bytes. Raises OSError."""
    position = 0
    while chunk := os.pread(reader, CHUNK_BYTES, position):
        on_chunk(position)
        sums.feed(chunk)
        position += len(chunk)
    return position


def seconds_to_settle(changed_ns: int) -> float:
    """Seconds to wait until any further change of a file would change its times; 0 if none.

    `changed_ns` is its last change, 0 if unknown. Clocks of file systems tick: a file that changed within the
    current tick may change again with the same times.
    """
    tick_ns = _COARSE_TICK_NS if changed_ns % _COARSE_TICK_NS == 0 else _TICK_NS
    age_ns = time.time_ns() - changed_ns
    # A time in the future is from another clock, so waiting does not help.
    return (tick_ns - age_ns) / 1e9 if changed_ns and 0 <= age_ns < tick_ns else 0.0


def _data_ranges(reader: int, writer: int) -> Iterator[tuple[int, int | None]]:
    """The ranges of the source with data, in order; the last one ends at the end of the file.

    The end is fixed now, so that the copy of a growing file ends, too. Files of the kernel (/proc) report
    size 0, and are read to their end.
    """
    try:
        status = os.fstat(reader)
        size = status.st_size
        if status.st_blocks * _BLOCK_BYTES >= size:
            yield 0, size or None
            return
        # ZFS had a bug that reported unwritten data as holes.
        try:
            os.fsync(reader)
        except OSError as error:
            # Other errors mean that the file system does not support it.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise
        holes = _holes(reader, size)
    except OSError as error:
        raise SourceError(error.errno, error.strerror) from error
    # Old content must not show in place of a hole.
    os.ftruncate(writer, 0)
    position = 0
    for begin, end in holes:
        if begin > position:
            yield position, begin
        position = end
    # Also if a hole ends the file: then this range is empty.
    yield position, size


def _holes(reader: int, size: int) -> list[tuple[int, int]]:
    holes: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            begin = os.lseek(reader, position, os.SEEK_HOLE)
            if begin >= size:
                break
            try:
                end = os.lseek(reader, begin, os.SEEK_DATA)
            except OSError as error:
                # The hole ends the file.
                if error.errno != errno.ENXIO:
                    raise
                end = size
        except OSError as error:
            # The file system does not support holes, or the file was truncated meanwhile.
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENXIO):
                break
            raise
        holes.append((begin, end))
        position = end
    return holes


def _copy_range(
    reader: int,
    writer: int,
    begin: int,
    end: int | None,
    on_chunk: Callable[[int], None],
    sums: Sums | None,
) -> int:
    """Copies from `begin` to `end`, or to the end of the file; returns where it stopped."""
    position = begin
    # Without checksums, the kernel can copy, or share blocks.
    in_kernel = sums is None
    while end is None or position < end:
        on_chunk(position)
        wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position)
        if in_kernel:
            count = _copy_in_kernel(reader, writer, wanted, position)
            if count:
                position += count
                continue
            # Some file systems (FUSE, /proc) return 0 before the end, and an error does not show which file it
            # concerns: continue with read() and write().
            in_kernel = False
        try:
            chunk = os.pread(reader, wanted, position)
        except OSError as error:
            raise SourceError(error.errno, error.strerror) from error
        if not chunk:
            break
        if sums is not None:
            sums.feed(chunk)
        written = 0
        while written < len(chunk):
            written += os.pwrite(writer, chunk[written:], position + written)
        position += len(chunk)
    return position


def _copy_in_kernel(reader: int, writer: int, count: int, position: int) -> int:
    try:
        return os.copy_file_range(reader, writer, count, position, position)
    except OSError:
        return 0
