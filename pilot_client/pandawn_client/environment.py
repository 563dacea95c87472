"""Removes secrets from the environment of this process."""

from __future__ import annotations

import ctypes
import os


def take_variable(name: str) -> str:
    """Removes a variable from the environment and returns it; empty if unset.

    Also clears its memory, which /proc/<pid>/environ shows: a payload could name a link to
    /proc/self/environ as its output.
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
