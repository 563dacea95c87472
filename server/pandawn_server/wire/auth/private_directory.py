"""A directory for one socket file that only this user can enter; removes those of dead servers."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import time
from datetime import timedelta
from pathlib import Path

SOCKET_NAME = "grpc"
"""The name of the socket file in it."""

STARTING = timedelta(minutes=1)
"""A directory younger than this may belong to a server that does not listen yet."""

_PREFIX = "pandawn-front-"


def make_private_directory() -> Path:
    """Creates a directory with mode 0700 in the directory for temporary files."""
    _remove_leftovers(Path(tempfile.gettempdir()))
    return Path(tempfile.mkdtemp(prefix=_PREFIX))


def _remove_leftovers(parent: Path) -> None:
    """Removes the directories of this user's servers that were killed."""
    for directory in parent.glob(f"{_PREFIX}*"):
        try:
            status = directory.lstat()
        except FileNotFoundError:
            continue
        is_young = time.time() - status.st_mtime < STARTING / timedelta(seconds=1)
        if status.st_uid == os.geteuid() and not is_young and not _is_alive(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _is_alive(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        outcome = probe.connect_ex(str(directory / SOCKET_NAME))
    return outcome not in {errno.ECONNREFUSED, errno.ENOENT}
