"""What an account that was made for a payload leaves on the node outside of its job's directory.

Such a number is lent again one day, so whatever it owns would then be another user's: files in places
where everybody may write, and System V memory, semaphores and queues.
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

# Kinds of disks that are the node's own; others may hang, and others' nodes use them, too.
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
    """Removes what an account owns in the places where everybody may write.

    None of its processes may run any more. Directories of others are entered only where all may
    write to them; nothing is followed through a link, and only what the account owns is removed.
    """
    for place in public_places() if places is None else places:
        _sweep(place, uid)
    if places is None:
        _remove_ipc(uid)


def public_places() -> list[Path]:
    """Directories of the node in which everybody may make files."""
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
            # Blanks and the like are written as octal numbers.
            found.append(before.split(" ")[4].encode().decode("unicode_escape"))
    return found


def _sweep(place: Path, uid: int) -> None:
    device = place.stat().st_dev

    def look(directory: int) -> list[str]:
        own = os.fstat(directory)
        # Between the look at its name and this one, another may have taken its place.
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
    """Where payloads have name spaces of their own, there is nothing: it went with those."""
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
