"""Removes what a payload's temporary account leaves on the node outside of its job's directory.

The user number is lent again one day, and its next payload would own the leftovers: files in
world-writable directories, and System V memory, semaphores and queues.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import tempfile
from pathlib import Path

from pandawn_pilot.node.namespaces import QUEUES, SHARED_MEMORY
from pandawn_pilot.node.trees import walk

# Types of local file systems; others may hang, and are shared with other nodes.
_LOCAL_KINDS = frozenset(
    {
        "tmpfs",
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "overlay",
        "zfs",
        "f2fs",
        "mqueue",
        "reiserfs",
    }
)
_KNOWN_PLACES = ("/tmp", "/var/tmp", SHARED_MEMORY, QUEUES, "/run/lock", "/var/crash")  # noqa: S108
_IPC_REMOVE = 0


def remove_leftovers(uid: int, places: list[Path] | None = None) -> None:
    """Removes all that an account owns in world-writable directories.

    Its processes must have ended. Enters directories of others only if they are world-writable, follows
    no links, and removes only what the account owns.
    """
    for place in public_places() if places is None else places:
        _sweep(place, uid)
    if places is None:
        _remove_ipc(uid)


def public_places() -> list[Path]:
    """The world-writable directories of the node."""
    found: list[Path] = []
    named = [*_KNOWN_PLACES, tempfile.gettempdir(), *_local_mounts()]
    for name in dict.fromkeys(os.path.realpath(name) for name in named):
        with contextlib.suppress(OSError):
            mode = Path(name).stat().st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IWOTH:
                found.append(Path(name))
    return found


def _local_mounts() -> list[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[str] = []
    for line in lines.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] in _LOCAL_KINDS:
            # The kernel writes blanks as octal escapes.
            found.append(before.split(" ")[4].encode().decode("unicode_escape"))
    return found


def _sweep(place: Path, uid: int) -> None:
    device = place.stat().st_dev

    def look(directory: int) -> list[str]:
        own = os.fstat(directory)
        # The directory may have been replaced since its name was checked.
        if own.st_dev != device or not (own.st_uid == uid or own.st_mode & stat.S_IWOTH):
            return []
        below: list[str] = []
        with os.scandir(directory) as items:
            entries = list(items)
        for item in entries:
            with contextlib.suppress(OSError):
                status = item.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    if status.st_uid == uid:
                        os.unlink(item.name, dir_fd=directory)
                elif status.st_uid == uid or status.st_mode & stat.S_IWOTH:
                    below.append(item.name)
        return below

    def leave(above: int, name: str) -> None:
        with contextlib.suppress(OSError):
            if os.stat(name, dir_fd=above, follow_symlinks=False).st_uid == uid:
                os.rmdir(name, dir_fd=above)

    with contextlib.suppress(OSError):
        walk(place, look, leave)


def _remove_ipc(uid: int) -> None:
    """Removes System V objects; payloads with their own name spaces leave none."""
    library = ctypes.CDLL(None, use_errno=True)
    for kind, arguments in (
        ("shm", (_IPC_REMOVE, None)),
        ("sem", (0, _IPC_REMOVE)),
        ("msg", (_IPC_REMOVE, None)),
    ):
        try:
            titles, *rows = Path("/proc/sysvipc", kind).read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        columns = titles.split()
        owner, maker = columns.index("uid"), columns.index("cuid")
        for fields in map(str.split, rows):
            if str(uid) in (fields[owner], fields[maker]):
                getattr(library, f"{kind}ctl")(int(fields[1]), *arguments)
