"""Lends a job's directories to its payload's account and takes them back; checks its outputs.

While a payload runs, its account owns its directories. The pilot owns the inputs: a hard link to a
cached file is read-only for all but its owner. Afterwards the pilot first takes all directories back:
then no name in them changes, and links can be checked. Otherwise a payload could swap in a link at the
right moment and make root read secrets.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pandawn_pilot.errors import OUTPUT_MISSING, JobFailedError
from pandawn_pilot.job.work_dir import JobDir
from pandawn_pilot.node.file_copy import copy_contents
from pandawn_pilot.node.trees import walk
from pandawn_pilot.stop import Stop
from pandawn_transports.account import Account

_PRIVATE = 0o700
# The payload's group may traverse a job's directory, but not list it.
_PASSABLE = 0o710
_READ_ONLY = 0o444


@contextmanager
def lent(
    directory: JobDir, account: Account | None, inputs: Collection[Path], stop: Stop
) -> Iterator[None]:
    """Lends the payload's directories to its account. Does nothing for the pilot's own (None)."""
    if account is None:
        yield
        return
    for path in inputs:
        _part_from(path, account, stop)
    os.chown(directory.root, -1, account.gid)
    directory.root.chmod(_PASSABLE)
    for top in (directory.work, directory.tmp):
        _give(top, account, inputs)
    try:
        yield
    finally:
        directory.root.chmod(_PRIVATE)
        for top in (directory.work, directory.tmp):
            _take_back(top)


def find_output(directory: JobDir, name: str, account: Account | None) -> Path:
    """The real path of an output. Raises JobFailedError for one that the payload must not publish.

    That is a link out of its directories (such as /proc/self/environ, which would be the pilot's), or a
    file that the payload itself cannot read.
    """
    try:
        path = Path(os.path.realpath(directory.work / name))
        tops = [directory.work.resolve(), directory.tmp.resolve()]
        if not any(path.is_relative_to(top) for top in tops):
            raise JobFailedError(
                OUTPUT_MISSING,
                f"the output {name!r} is a link that leads out of the work directory",
            )
        if path.exists() and not may_offer(path.stat(), account):
            raise JobFailedError(
                OUTPUT_MISSING,
                f"the output {name!r} is a file that the payload is not allowed to read",
            )
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the name, which the server should have refused.
        raise JobFailedError(
            OUTPUT_MISSING, f"the output {name!r} cannot be found: {error}"
        ) from error
    return path


def may_offer(status: os.stat_result, account: Account | None) -> bool:
    """Whether the account can read a file: its own, or a world-readable one."""
    return account is None or status.st_uid == account.uid or bool(status.st_mode & stat.S_IROTH)


def _part_from(path: Path, account: Account, stop: Stop) -> None:
    """Replaces an input by a copy if the account owns the cached file, and could write to it."""
    status = path.lstat()
    if status.st_uid != account.uid:
        return
    copy = path.with_name(f".{path.name}.copy")
    copy_contents(path, copy, stop)
    copy.chmod(_READ_ONLY)
    copy.replace(path)


def _give(top: Path, account: Account, keep: Collection[Path]) -> None:
    """Gives a tree to an account, its top last, so that the account cannot enter before."""
    ours = {status.st_ino for status in map(Path.lstat, keep)}

    def look(directory: int) -> list[str]:
        below: list[str] = []
        with os.scandir(directory) as items:
            for item in items:
                status = item.stat(follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                # A hard link may be another user's file.
                if (is_directory or status.st_nlink == 1) and status.st_ino not in ours:
                    os.chown(
                        item.name,
                        account.uid,
                        account.gid,
                        dir_fd=directory,
                        follow_symlinks=False,
                    )
                if is_directory:
                    below.append(item.name)
        return below

    walk(top, look)
    os.chown(top, account.uid, account.gid, follow_symlinks=False)
    top.chmod(_PRIVATE)


def _take_back(top: Path) -> None:
    """Takes the directories of a tree back, top first, so that no name below changes.

    At any depth: a library has files far down.
    """

    def look(directory: int) -> list[str]:
        os.fchown(directory, os.geteuid(), os.getegid())
        os.fchmod(directory, _PRIVATE)
        with os.scandir(directory) as items:
            return [item.name for item in items if item.is_dir(follow_symlinks=False)]

    # The payload may have removed its directory.
    with contextlib.suppress(OSError):
        walk(top, look)
