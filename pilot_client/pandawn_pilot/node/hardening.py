"""What a process with secrets does so that others of the same account do not read them out of it."""

from __future__ import annotations

import ctypes
import os

_PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Closes /proc/<pid>/mem, environ, fd and the like to all but root, and leaves no core file.

    Nor may a debugger of the same account attach. What the process starts is not hidden: a new
    program begins anew.
    """
    prctl(_PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int) -> None:
    """The system call. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")
