"""Atomic replacement of small files: a reader sees the old text or the new one."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def replace_text(path: Path, text: str, *, sync: bool = False, private: bool = False) -> None:
    """Replaces the file's content atomically; with `sync` it also survives a power cut.

    Only this account can read a `private` file. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            if private:
                os.fchmod(stream.fileno(), 0o600)
            else:
                share(stream.fileno(), path.parent)
            stream.write(text)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def share(descriptor: int, directory: Path) -> None:
    """Gives an open file the write permissions of its directory, whatever the umask is.

    Accounts that share a directory (such as pcache's) must be able to write each other's files.
    """
    shared_with = directory.stat().st_mode
    others = shared_with & 0o022
    # In a sticky directory like /tmp, each account writes only its own files.
    if not others or shared_with & stat.S_ISVTX:
        return
    status = os.fstat(descriptor)
    mode = (status.st_mode & 0o777) | others | others << 1
    if mode != status.st_mode & 0o777 and status.st_uid == os.geteuid():
        os.fchmod(descriptor, mode)


def sync_directory(directory: Path) -> None:
    """Syncs a directory, so that its names survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
