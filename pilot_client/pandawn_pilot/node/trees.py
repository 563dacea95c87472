"""Walks over directories that somebody else has made: of any depth, and never through a link.

A path has at most 4,096 bytes, a process some hundred open files, Python a thousand calls inside each
other; a payload nests directories deeper than all of these. So a walk goes down by open descriptors,
one at a time, and up by "..", where it looks whether it is back at the directory that it came from.
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
    """A directory on the way down: its name in the one above, who it is, what is left to enter."""

    name: str
    identity: tuple[int, int]
    waiting: list[str]


def walk(
    top: Path,
    look: Callable[[int], list[str]],
    leave: Callable[[int, str], None] | None = None,
    enter: Callable[[int, str], None] | None = None,
) -> None:
    """Calls `look` with a descriptor of `top` and of each directory that `look` names in turn.

    `enter` is called before, and `leave` after all below a directory is done, each with a descriptor
    of the directory above it and its name. Directories that vanish or may not be entered are passed
    over. Raises OSError where `top` cannot be opened, and when the way back is lost because somebody
    moved a directory meanwhile.
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
                raise OSError(
                    errno.ESTALE, "a directory was moved while it was looked at", str(top)
                )
            if leave is not None:
                leave(here, level.name)
    finally:
        os.close(here)


def _enter(above: int, name: str, enter: Callable[[int, str], None] | None) -> int | None:
    """A descriptor of a directory from which the way back is open, too; None where there is none."""
    try:
        if enter is not None:
            enter(above, name)
        below = os.open(name, _DIRECTORY, dir_fd=above)
    except OSError as error:
        # Without a descriptor the walk cannot go on: that is no matter of one directory.
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None
    if not os.access("..", os.F_OK, dir_fd=below):
        # It may be listed, but nothing in it may be reached.
        os.close(below)
        return None
    return below


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def remove_tree(root: Path) -> None:
    """Removes a directory with all below it, also where a payload has taken our rights away.

    What cannot be removed stays, without a word: the next start of the pilot tries again.
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
        # A directory that its disk cannot read any more keeps no other from being emptied.
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
    """Gives us the right to enter a directory of our own. Root needs none."""
    if os.geteuid() != 0 and stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
        os.chmod(name, 0o700, dir_fd=above)
