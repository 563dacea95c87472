"""Copies the bytes of an open file: holes stay holes, the sums come with the same read."""

from __future__ import annotations

import errno
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator

# Small enough that a cancelled copy from a slow disk ends soon, and that a slow one shows progress.
CHUNK_BYTES = 4 * 1024 * 1024
# A block of st_blocks, whatever the file system's own are.
_BLOCK_BYTES = 512
_ADLER_MODULUS = 65521
# Linux stamps files by its timer, at least a hundred times a second ...
_TICK_NS = 20_000_000
# ... and some storages by the second.
_COARSE_TICK_NS = 1_000_000_000


class SourceError(OSError):
    """The error of the file that is read; other OSErrors of a copy are about the file that is written."""


class Sums:
    """Adler-32 of what was fed, and SHA-256 where it is wanted."""

    def __init__(self, *, with_sha256: bool = False) -> None:
        self._adler = 1
        self._sha256 = hashlib.sha256() if with_sha256 else None

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes."""
        self._adler = zlib.adler32(chunk, self._adler)
        if self._sha256 is not None:
            self._sha256.update(chunk)

    def feed_zeros(self, count: int) -> None:
        """Takes so many zeros, as a hole has them."""
        # By its definition: the low sum stays, the high one grows by it with each zero.
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
        """As `sha256:<hex>`; empty where it was not wanted."""
        return "" if self._sha256 is None else f"sha256:{self._sha256.hexdigest()}"


def copy_bytes(
    reader: int, writer: int, on_chunk: Callable[[int], None], sums: Sums | None = None
) -> int:
    """Makes the file at `writer` hold what the one at `reader` does; returns how many bytes.

    `on_chunk` gets the number of bytes before each chunk, and may end the copy by raising.
    Raises SourceError for what is wrong with the source, OSError for what is wrong with the copy.
    """
    position = 0
    for begin, end in _data_ranges(reader, writer):
        if sums is not None:
            sums.feed_zeros(begin - position)
        position = _copy_range(reader, writer, begin, end, on_chunk, sums)
    # Not O_TRUNC at the opening: the cache has reserved the blocks.
    os.ftruncate(writer, position)
    return position


def sum_bytes(reader: int, on_chunk: Callable[[int], None], sums: Sums) -> int:
    """Feeds an open file to the sums; returns how many bytes. Raises OSError."""
    position = 0
    while chunk := os.pread(reader, CHUNK_BYTES, position):
        on_chunk(position)
        sums.feed(chunk)
        position += len(chunk)
    return position


def seconds_to_settle(changed_ns: int) -> float:
    """How long to wait until the next change of a file would show in its times; 0: it does.

    `changed_ns` is its last change, 0 where the storage does not say. Clocks of file systems tick: a
    file that changed within the present tick may change once more without a trace.
    """
    tick_ns = _COARSE_TICK_NS if changed_ns % _COARSE_TICK_NS == 0 else _TICK_NS
    age_ns = time.time_ns() - changed_ns
    # A change in the future is one by another clock, of which nothing is known.
    return (tick_ns - age_ns) / 1e9 if changed_ns and 0 <= age_ns < tick_ns else 0.0


def _data_ranges(reader: int, writer: int) -> Iterator[tuple[int, int | None]]:
    """Where the source has data, in order; the last range ends where the file does.

    That is where it ends now: the copy of one that grows all the time must end, too. Files of the
    kernel (/proc) say that they are empty, and are read as far as they go.
    """
    try:
        status = os.fstat(reader)
        size = status.st_size
        if status.st_blocks * _BLOCK_BYTES >= size:
            yield 0, size or None
            return
        # ZFS has mistaken data for holes that it had not written out yet.
        try:
            os.fsync(reader)
        except OSError as error:
            # Others say only that this file system does not do that.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise
        holes = _holes(reader, size)
    except OSError as error:
        raise SourceError(error.errno, error.strerror) from error
    # What was at the place of a hole must not shine through.
    os.ftruncate(writer, 0)
    position = 0
    for begin, end in holes:
        if begin > position:
            yield position, begin
        position = end
    # Also where the last hole ends the file: then there is nothing to read.
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
            # A file system that knows no holes, or a file that was cut short meanwhile.
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
    # Where nobody wants to see the bytes the kernel may share their blocks.
    in_kernel = sums is None
    while end is None or position < end:
        on_chunk(position)
        wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position)
        if in_kernel:
            count = _copy_in_kernel(reader, writer, wanted, position)
            if count:
                position += count
                continue
            # Some file systems (FUSE, /proc) answer 0 although there is more, and an error does not
            # say whose it is: read() and write() decide.
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
