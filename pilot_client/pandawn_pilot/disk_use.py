"""How much disk a directory takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def directory_bytes(directory: Path) -> int:
    """Sum of the sizes of all files below a directory, as `ls` shows them, each name counted.

    A sparse file counts whole, as it would in storage. Files that vanish meanwhile are left out.
    """
    total = 0
    waiting = [os.fspath(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as items:
                for item in items:
                    try:
                        if item.is_dir(follow_symlinks=False):
                            waiting.append(item.path)
                        else:
                            total += item.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total


def free_bytes(directory: Path) -> int:
    """Bytes that this user may still write on the disk of a directory."""
    return shutil.disk_usage(directory).free


def same_disk(one: Path, other: Path) -> bool:
    """Whether two directories lie on one file system."""
    return one.stat().st_dev == other.stat().st_dev
