"""Locks between the processes of a node: flock on small files.

The kernel releases such a lock when its holder dies, so none can stay locked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pandawn_pilot.node.durable import share
from pandawn_pilot.stop import Stop

# Polling lets a cancelled job stop waiting; 50 ms is short compared to a file transfer.
POLL_SECONDS = 0.05
# Most locks are held for less than a millisecond.
_FIRST_POLL_SECONDS = 0.001


class LockTimeoutError(OSError):
    """Another process held the lock for too long: it is suspended, or waits for a hanging disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            errno.ETIMEDOUT, "another process has held the lock for too long", str(path)
        )


@contextmanager
def exclusive(
    path: Path, stop: Stop | None = None, *, wait_seconds: float | None = None
) -> Iterator[None]:
    """Holds the lock of `path`. Waits without limit, or until `stop` (StoppedError).

    With `wait_seconds` it waits at most that long (LockTimeoutError). Raises OSError.
    """
    descriptor = None
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    pause = _FIRST_POLL_SECONDS
    while descriptor is None:
        if stop is None and deadline is None:
            descriptor = _take(path, wait=True)
            continue
        descriptor = _take(path, wait=False)
        if descriptor is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise LockTimeoutError(path)
            if stop is not None:
                stop.sleep(pause)
            else:
                time.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def attempt(path: Path, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Tries for `wait_seconds` to lock `path`; yields whether the lock is held."""
    deadline = time.monotonic() + wait_seconds
    descriptor = _take(path, wait=False)
    while descriptor is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        descriptor = _take(path, wait=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def kept_from_cleaners(directory: Path) -> Iterator[None]:
    """Marks a directory as in use: systemd-tmpfiles skips locked directories."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Best effort: some file systems cannot lock directories.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _take(path: Path, *, wait: bool) -> int | None:
    """Opens and locks the file; None when another process holds it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            share(descriptor, path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            # The directory was removed meanwhile.
            os.close(descriptor)
            continue
        except OSError:
            os.close(descriptor)
            raise
        # The previous holder may have removed the file meanwhile: then no one else can see our lock, so
        # start over.
        if _is_current(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
