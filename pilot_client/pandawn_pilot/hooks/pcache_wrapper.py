"""The command `pandawn-pcache`: stands where a site had pcache.py, runs that, and has the catalog told.

Options, output, signals and exit statuses are those of the real one, which PANDAWN_PCACHE_CMD names
(default: `pcache.py`). Where to report is said by PANDAWN_SERVER, PANDAWN_SITE (or pcache's `-S`, or
SITE) and PANDAWN_NODE. What becomes of the report changes nothing of all this.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from pandawn_pilot.node.utf8 import use_utf8
from pandawn_pilot.pcache.layout import Invocation, Place, read_options
from pandawn_pilot.release import version

# pcache's caller waits for its file: the report goes on without us after this.
_PATIENCE_SECONDS = 5.0
# How long it tries to reach the server then.
_REPORT_SECONDS = "20"
# What a shell says of a program that it cannot start.
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class _Child:
    """The real pcache, to which signals are passed on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def run(self, command: Sequence[str]) -> int:
        """Runs it to its end; returns its status as `subprocess` has it. Raises OSError."""
        for number in _FORWARDED:
            # What our caller wants to be ignored, pcache ignores too.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._forward)
        self._process = subprocess.Popen(command)
        for early in self._early:
            self._process.send_signal(early)
        return self._process.wait()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    if arguments is None:
        use_utf8()
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = shlex.split(os.environ.get("PANDAWN_PCACHE_CMD", "")) or ["pcache.py"]
    if words == ["--version"]:
        # Whose version follows is plain only if this one's is told too.
        _say(f"version {version()}; what follows is that of {command[0]}")
    asked = read_options(words)
    place = Place(asked.scratch_dir) if asked is not None else None
    before = place.stamp() if place is not None else None
    try:
        status = _Child().run([*command, *words])
    except OSError as error:
        _say(
            f"cannot run {command[0]!r}, name the real one in PANDAWN_PCACHE_CMD: {error.strerror}"
        )
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
    # pcache's cleaner begins when pcache ends: what it does is seen by the report, which waits.
    if asked is not None and place is not None and (asked.clean or place.stamp() != before):
        _report(asked, place)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _report(asked: Invocation, place: Place) -> None:
    """Starts a process that reports, and waits a little for it. Never fails."""
    site = os.environ.get("PANDAWN_SITE") or asked.site or os.environ.get("SITE")
    server = os.environ.get("PANDAWN_SERVER")
    if not site or not server:
        _say("not reported: name the server in PANDAWN_SERVER and the site in PANDAWN_SITE")
        return
    command = [sys.executable, "-m", "pandawn_pilot.hooks.pcache_hook", "sync", "--settle"]
    command += ["--server", server, "--site", site, "--scratch-dir", place.scratch_dir]
    command += ["--timeout", _REPORT_SECONDS]
    if node := os.environ.get("PANDAWN_NODE"):
        command += ["--node", node]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # Not ours: whoever reads pcache's output to its end must not wait for the report.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _say(f"not reported: {error}")
        return
    assert process.stdout is not None
    said = _first_line(process.stdout.fileno())
    if said is not None and said != b"reported":
        _say(f"not reported: {said.decode(errors='replace') or 'the report ended early'}")


def _first_line(descriptor: int) -> bytes | None:
    """What a process says first; None if it says nothing for too long."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    said = b""
    while b"\n" not in said:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 4096)
        if not part:
            break
        said += part
    return said.partition(b"\n")[0]


def _say(text: str) -> None:
    sys.stderr.write(f"pandawn-pcache: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
