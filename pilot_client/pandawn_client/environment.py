"""Secrets in the environment of a process, and how they leave it."""

from __future__ import annotations

import ctypes
import os


def take_variable(name: str) -> str:
    """Takes a variable out of the environment and returns it; empty when there is none.

    Also out of the memory where the kernel has put it: /proc/<pid>/environ shows what is there, and
    a link to /proc/self/environ is what a payload might offer as its output.
    """
    value = os.environ.get(name, "")
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    library.getenv.argtypes = [ctypes.c_char_p]
    place = library.getenv(os.fsencode(name))
    if place:
        ctypes.memset(place, 0, len(ctypes.string_at(place)))
    os.environ.pop(name, None)
    return value
