"""Opens files as the account of a payload would, so that the kernel decides what it may read.

A pilot that is root may read everything. What a user names as input is opened with the user's
rights: by a thread that takes on the account's file system identity, which the kernel keeps for each
thread, and ends with it. A child process would do as well, but forking is slow and, beside gRPC's
threads, delicate.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pandawn_pilot.accounts import Account

# O_NONBLOCK: opening a named pipe must not wait for a writer.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The number of the call setgroups: the C library's own function changes all threads.
_SETGROUPS = {
    "x86_64": 116,
    "aarch64": 159,
    "riscv64": 159,
    "loongarch64": 159,
    "ppc64le": 81,
    "ppc64": 81,
    "s390x": 206,
}


@contextmanager
def open_as(path: str | os.PathLike[str], reader: Account | None) -> Iterator[int]:
    """Opens a file for reading as an account; None: as the pilot. Yields the descriptor.

    All directories on the way are passed with the account's rights, too. Raises OSError.
    """
    descriptor = os.open(path, _FLAGS) if reader is None else _open_in_thread(path, reader)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_in_thread(path: str | os.PathLike[str], reader: Account) -> int:
    opened: list[int] = []
    failed: list[OSError] = []

    def run() -> None:
        try:
            _take_on(reader)
            opened.append(os.open(path, _FLAGS))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="open-as")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    if not opened:
        raise OSError(errno.EIO, "the thread that opens files ended early", os.fspath(path))
    return opened[0]


def _take_on(account: Account) -> None:
    """Gives the calling thread, and no other, the rights of an account, for good. Raises OSError."""
    number = _SETGROUPS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"cannot open files as another account on {platform.machine()}")
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), ctypes.c_size_t(0), None) != 0:
        raise OSError(ctypes.get_errno(), "setgroups")
    library.setfsgid(account.gid)
    # From root to another number, this takes away the capabilities that pass over modes as well.
    library.setfsuid(account.uid)
    # Both return what was before, also when they have failed.
    is_done = library.setfsgid(-1) == account.gid and library.setfsuid(-1) == account.uid
    if not is_done or os.getgroups():
        raise OSError(errno.EPERM, f"may not open files as account {account.name}")
