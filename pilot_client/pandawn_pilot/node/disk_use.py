"""The disk use of a directory, and whether its disk is full."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.node.trees import walk
from pandawn_pilot.sizes import size_text

# The unit of `st_blocks`, independent of the file system.
_BLOCK_BYTES = 512
# A disk with less free is full.
FULL_DISK_BYTES = 1024 * 1024
# A disk with fewer free inodes is full. Some file systems have no inode counts: 0 of 0.
FULL_DISK_INODES = 8
# Size of a trial write, which detects a quota; counts of free blocks do not.
_TRIAL_BYTES = 64 * 1024


@dataclass(frozen=True)
class DiskUse:
    """The size of a directory. `trouble` says why a part was not measured; empty if complete."""

    size_bytes: int
    trouble: str = ""


def directory_use(directory: Path) -> DiskUse:
    """The blocks of all files below a directory, as `du` counts them, but hard links count each.

    So a sparse file counts with its blocks, a hard link to a cached file in full. Skips files that
    disappear meanwhile. Directories can have any depth.
    """
    total = 0

    def look(descriptor: int) -> list[str]:
        nonlocal total
        below: list[str] = []
        with os.scandir(descriptor) as items:
            for item in items:
                try:
                    status = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                total += status.st_blocks * _BLOCK_BYTES
                if stat.S_ISDIR(status.st_mode):
                    below.append(item.name)
        return below

    try:
        walk(directory, look)
    except OSError as error:
        return DiskUse(total, f"cannot measure all of {directory}: {error.strerror}")
    return DiskUse(total)


def free_bytes(directory: Path) -> int:
    """Free bytes for this user on the disk of a directory."""
    return shutil.disk_usage(directory).free


def why_full(directory: Path) -> str | None:
    """Why the disk of a directory is full; None if it is not, or if that is unknown."""
    try:
        state = os.statvfs(directory)
    except OSError:
        return None
    free = state.f_bavail * state.f_frsize
    if free < FULL_DISK_BYTES:
        return f"{size_text(free)} free"
    if state.f_files and state.f_favail < FULL_DISK_INODES:
        return f"all {state.f_files} inodes are used"
    try:
        with tempfile.TemporaryFile(dir=directory, prefix=".trial-", buffering=0) as trial:
            trial.write(bytes(_TRIAL_BYTES))
            os.fsync(trial.fileno())
    except OSError as error:
        if error.errno == errno.EDQUOT:
            return "the quota is exceeded"
        if error.errno == errno.ENOSPC:
            return "writing fails although there seems to be space"
    return None


def same_disk(one: Path, other: Path) -> bool:
    """Whether two directories are on the same file system."""
    return one.stat().st_dev == other.stat().st_dev
