"""Copies and links regular files, as cheaply as the file system allows."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from pandawn_pilot.stop import Stop
from pandawn_transports.mover.copying import copy_bytes

# Linux ioctl that makes two files share their blocks until one is modified (btrfs, xfs ...).
_FICLONE = 0x40049409
# Errors of the disk or of the files. All others mean that reflinks or hard links are not supported: file
# systems (FUSE, AFS, CIFS, vfat ...), security modules and kernels have many numbers for that.
_TELLING = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EROFS,
        errno.ESTALE,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EEXIST,
    }
)


def copy_contents(source: Path, destination: Path, stop: Stop) -> int:
    """Copies `source` to `destination`, which may exist; returns the number of bytes.

    Keeps holes. Raises OSError (such as IsADirectoryError for anything but a regular file), and
    StoppedError.
    """
    # O_NONBLOCK: opening a named pipe must fail the check below, not wait for a writer.
    reader = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(reader).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(source))
        writer = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            return copy_bytes(reader, writer, lambda _: stop.check())
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def place(source: Path, destination: Path, stop: Stop) -> None:
    """Places a cached file, read-only, for a job: a reflink, else a hard link, else a copy.

    A reflink is best: a payload that writes to it damages only its own file.
    """
    destination.unlink(missing_ok=True)
    if _clone(source, destination):
        destination.chmod(0o444)
        return
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno in _TELLING:
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
            if error.errno in _TELLING:
                raise
            return False
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    return True
