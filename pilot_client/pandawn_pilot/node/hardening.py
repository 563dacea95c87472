"""Protects a process with secrets from other processes of the same account."""

from __future__ import annotations

import ctypes
import os

_PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Makes /proc/<pid>/mem, environ, fd and so on readable by root only; disables core files.

    Debuggers of the same account cannot attach. Programs that the process starts are not protected. Raises
    OSError.
    """
    prctl(_PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int) -> None:
    """The system call. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")
