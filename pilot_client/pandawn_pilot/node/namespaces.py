"""What the kernel can keep apart for a payload: its processes, its mounts, its shared memory.

Part of the payload's wrapper, and so of the standard library only. Who may do this is root, outside of
containers that forbid it.

A payload in name spaces of its own sees no process but its own, has an empty /dev/shm, and System V
and POSIX message queues, semaphores and memory of its own; all of it ends with its first process,
however that ends, and no process can get away.
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
    """Gives this process's children to come name spaces of their own. Raises OSError.

    What is mounted on the node later, by an automounter say, still comes through; what is mounted
    inside does not come out.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWPID) != 0:
        _fail("unshare")
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)


def furnish(work_dir: str) -> None:
    """Mounts what belongs to the new name spaces; for their first process. Raises OSError.

    /dev/shm stays the node's where the work directory lies in there.
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
