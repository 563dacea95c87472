"""Name spaces of a payload: processes, mounts and shared memory.

Part of the payload's wrapper, so it uses the standard library only. It requires root, and a container
that allows it.

A payload with its own name spaces sees only its own processes, and has an empty /dev/shm and its own
System V and POSIX message queues, semaphores and memory. All of it ends with the name space's first
process, and no process can escape.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (the kernel's name for it)
QUEUES = "/dev/mqueue"


def separate() -> None:
    """Creates new name spaces for future children of this process. Raises OSError.

    Later mounts on the node (such as an automounter's) are visible inside; mounts inside stay inside.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWPID) != 0:
        _fail("unshare")
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)


def furnish(work_dir: str) -> None:
    """Mounts the file systems of new name spaces, in their first process. Raises OSError.

    Keeps the node's /dev/shm if the work directory is in it.
    """
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if Path(SHARED_MEMORY).is_dir() and not work_dir.startswith(f"{SHARED_MEMORY}/"):
        _mount("tmpfs", SHARED_MEMORY, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    if Path(QUEUES).is_dir():
        _mount("mqueue", QUEUES, "mqueue", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    if library.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        _fail(f"mount {target}")


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
