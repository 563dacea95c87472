"""Walks untrusted directory trees of any depth, without following links.

A path has at most 4,096 bytes, a process some hundred open files, Python a thousand nested calls; a
payload can nest directories deeper. So a walk descends by descriptors, one at a time, and returns by
"..", where it checks that it is back in the same directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class _Level:
    """An entered directory: its name, its identity, and the subdirectories still to enter."""

    name: str
    identity: tuple[int, int]
    waiting: list[str]


def walk(
    top: Path,
    look: Callable[[int], list[str]],
    leave: Callable[[int, str], None] | None = None,
    enter: Callable[[int, str], None] | None = None,
) -> None:
    """Calls `look` with a descriptor of `top`, and of each subdirectory that `look` returns.

    Calls `enter` before and `leave` after a subdirectory, with a descriptor of its parent and its name.
    Skips directories that disappear or cannot be entered. Raises OSError if `top` cannot be opened, or if
    a directory was moved during the walk.
    """
    here = os.open(top, _DIRECTORY)
    try:
        levels = [_Level("", _identity(here), look(here))]
        while True:
            level = levels[-1]
            if level.waiting:
                name = level.waiting.pop()
                below = _enter(here, name, enter)
                if below is None:
                    continue
                os.close(here)
                here = below
                levels.append(_Level(name, _identity(here), look(here)))
                continue
            if len(levels) == 1:
                return
            levels.pop()
            above = os.open("..", _DIRECTORY, dir_fd=here)
            os.close(here)
            here = above
            if _identity(here) != levels[-1].identity:
                raise OSError(errno.ESTALE, "a directory was moved while it was read", str(top))
            if leave is not None:
                leave(here, level.name)
    finally:
        os.close(here)


def _enter(above: int, name: str, enter: Callable[[int, str], None] | None) -> int | None:
    """A descriptor of a subdirectory whose parent is reachable; None if it cannot be entered."""
    try:
        if enter is not None:
            enter(above, name)
        below = os.open(name, _DIRECTORY, dir_fd=above)
    except OSError as error:
        # Out of descriptors or memory: the walk as a whole fails.
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None
    if not os.access("..", os.F_OK, dir_fd=below):
        # It can be listed, but not traversed.
        os.close(below)
        return None
    return below


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def remove_tree(root: Path) -> None:
    """Removes a directory tree, even if a payload has removed our permissions.

    Silently leaves what cannot be removed: the next start of the pilot tries again.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(root.lstat().st_mode):
            root.unlink()
            return
        if os.geteuid() != 0:
            root.chmod(0o700)
        walk(root, _unlink_files, _remove_directory, _open_up)
        root.rmdir()


def _unlink_files(directory: int) -> list[str]:
    below: list[str] = []
    try:
        with os.scandir(directory) as items:
            entries = list(items)
    except OSError:
        # Skip an unreadable directory; the others are still emptied.
        return below
    for item in entries:
        if item.is_dir(follow_symlinks=False):
            below.append(item.name)
        else:
            with contextlib.suppress(OSError):
                os.unlink(item.name, dir_fd=directory)
    return below


def _remove_directory(above: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=above)


def _open_up(above: int, name: str) -> None:
    """Restores our permissions on our own directory. Root does not need them."""
    if os.geteuid() != 0 and stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
        os.chmod(name, 0o700, dir_fd=above)
