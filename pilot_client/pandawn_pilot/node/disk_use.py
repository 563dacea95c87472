"""How much disk a directory takes, and whether its disk still takes anything."""

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

# The unit of `st_blocks`, whatever the disk's own blocks are.
_BLOCK_BYTES = 512
# With less than this free, a disk is full.
FULL_DISK_BYTES = 1024 * 1024
# With fewer than this free, a disk takes no new files. Some kinds of disks count none, and say 0 of 0.
FULL_DISK_INODES = 8
# What a trial writes to learn of a quota, which no count of free blocks shows.
_TRIAL_BYTES = 64 * 1024


@dataclass(frozen=True)
class DiskUse:
    """What a directory takes. `trouble` is why not all of it could be looked at; empty: it was."""

    size_bytes: int
    trouble: str = ""


def directory_use(directory: Path) -> DiskUse:
    """Blocks that all files below a directory take, as `du` counts them, but each name for itself.

    So a sparse file counts with what it holds, a staged-in one with its size whoever else has it.
    Files that vanish meanwhile are left out. Directories may be of any depth.
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
        return DiskUse(total, f"{directory} could not be measured whole: {error.strerror}")
    return DiskUse(total)


def free_bytes(directory: Path) -> int:
    """Bytes that this user may still write on the disk of a directory."""
    return shutil.disk_usage(directory).free


def why_full(directory: Path) -> str | None:
    """Why the disk of a directory takes nothing more; None while it does, or where nobody can tell."""
    try:
        state = os.statvfs(directory)
    except OSError:
        return None
    free = state.f_bavail * state.f_frsize
    if free < FULL_DISK_BYTES:
        return f"{size_text(free)} are free"
    if state.f_files and state.f_favail < FULL_DISK_INODES:
        return f"its {state.f_files} inodes are used up"
    try:
        with tempfile.TemporaryFile(dir=directory, prefix=".trial-", buffering=0) as trial:
            trial.write(bytes(_TRIAL_BYTES))
            os.fsync(trial.fileno())
    except OSError as error:
        if error.errno == errno.EDQUOT:
            return "the quota is used up"
        if error.errno == errno.ENOSPC:
            return "nothing can be written, though it seems to have room"
    return None


def same_disk(one: Path, other: Path) -> bool:
    """Whether two directories lie on one file system."""
    return one.stat().st_dev == other.stat().st_dev
