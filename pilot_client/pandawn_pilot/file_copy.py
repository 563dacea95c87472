"""Copying and linking files: as cheaply as the file systems allow, and never what is not a file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from pandawn_pilot.stop import Stop

# ioctl of Linux that makes two files share their blocks until one is written to (btrfs, xfs ...).
_FICLONE = 0x40049409
# Small enough that a cancelled copy from a slow disk ends soon.
COPY_CHUNK_BYTES = 16 * 1024 * 1024
# What the kernel answers when it cannot copy between these two files by itself.
_NOT_IN_KERNEL = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
# What it answers when the file system does not share blocks.
_NOT_CLONED = _NOT_IN_KERNEL | {errno.ENOTTY, errno.EPERM, errno.EISDIR}


def copy_contents(source: Path, destination: Path, stop: Stop, *, sync: bool = False) -> int:
    """Makes `destination`, which may exist, hold the bytes of `source`; returns how many.

    Raises OSError (IsADirectoryError and the like for what is not a regular file), and
    StoppedError.
    """
    # O_NONBLOCK: opening a named pipe must fail the check below, not wait for a writer.
    reader = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(reader).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(source))
        return copy_opened(reader, destination, stop, sync=sync)
    finally:
        os.close(reader)


def copy_opened(reader: int, destination: Path, stop: Stop, *, sync: bool = False) -> int:
    """The same with a source that is open, at its beginning."""
    # Not O_TRUNC: the cache has reserved the blocks.
    writer = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        copied = _copy(reader, writer, stop)
        os.ftruncate(writer, copied)
        if sync:
            os.fsync(writer)
    finally:
        os.close(writer)
    return copied


def place(source: Path, destination: Path, stop: Stop) -> None:
    """Gives a job its own name for a cached file, read-only: reflink, hard link, or else a copy.

    A reflink is best, because a payload that writes to it spoils only its own file.
    """
    destination.unlink(missing_ok=True)
    if _clone(source, destination):
        destination.chmod(0o444)
        return
    try:
        os.link(source, destination)
    except OSError as error:
        # Another file system, too many links, or a kernel that protects hard links.
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP):
            raise
        copy_contents(source, destination, stop)
        destination.chmod(0o444)


def _clone(source: Path, destination: Path) -> bool:
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.ioctl(writer, _FICLONE, reader)
        except OSError as error:
            destination.unlink()
            if error.errno in _NOT_CLONED:
                return False
            raise
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    return True


def _copy(reader: int, writer: int, stop: Stop) -> int:
    copied = 0
    in_kernel = True
    while True:
        stop.check()
        if in_kernel:
            try:
                count = os.copy_file_range(reader, writer, COPY_CHUNK_BYTES)
            except OSError as error:
                if copied or error.errno not in _NOT_IN_KERNEL:
                    raise
                in_kernel = False
                continue
            # Some file systems (FUSE, /proc) answer 0 although there is more: read() decides.
            if count == 0:
                in_kernel = False
                continue
        else:
            count = _copy_through_memory(reader, writer)
            if count == 0:
                return copied
        copied += count


def _copy_through_memory(reader: int, writer: int) -> int:
    chunk = os.read(reader, COPY_CHUNK_BYTES)
    written = 0
    while written < len(chunk):
        written += os.write(writer, chunk[written:])
    return len(chunk)
