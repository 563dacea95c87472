"""Finds and kills processes of payloads whose pilot and wrapper were both killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from pandawn_pilot.payload.process_tree import has_terminal

# In each payload's environment: its work directory, which identifies its processes.
MARK = "PANDAWN_WORK_DIR"
# A process that survives SIGKILL waits for a hanging disk.
_KILL_PATIENCE_SECONDS = 10.0


def end_processes_in(directory: Path) -> list[int]:
    """Kills payloads below a directory until none is left; returns the process numbers found at first.

    These are processes with the directory in their environment, or as working directory without a
    terminal (administrators have one). Processes that cannot be inspected are not our payloads.
    """
    deadline = time.monotonic() + _KILL_PATIENCE_SECONDS
    first = left = processes_in(directory)
    while left and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
        left = processes_in(directory)
    return first


def processes_in(directory: Path) -> list[int]:
    """Process numbers of payloads in a directory or below it."""
    top = os.fsencode(os.path.realpath(directory))
    mark = b"\0" + MARK.encode() + b"="
    own = os.getpid()
    found: list[int] = []
    for item in os.scandir("/proc"):
        if not item.name.isdecimal() or int(item.name) == own:
            continue
        with contextlib.suppress(OSError):
            environment = b"\0" + Path(item.path, "environ").read_bytes()
            _, _, rest = environment.partition(mark)
            place = rest.partition(b"\0")[0]
            if _is_below(place, top) or (
                _is_below(os.fsencode(_directory_of(item.path)), top)
                and not has_terminal(int(item.name))
            ):
                found.append(int(item.name))
    return found


def _directory_of(process: str) -> str:
    # The kernel appends " (deleted)" for a removed directory.
    return str(Path(process, "cwd").readlink()).removesuffix(" (deleted)")


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")
