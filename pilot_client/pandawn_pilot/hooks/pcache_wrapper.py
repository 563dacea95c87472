"""The command `pandawn-pcache`: replaces a site's pcache.py, runs it, and reports to the catalog.

Options, output, signals and exit statuses are those of the real pcache in PANDAWN_PCACHE_CMD (default:
`pcache.py`). PANDAWN_SERVER, PANDAWN_SITE (or pcache's `-S`, or SITE) and PANDAWN_NODE say where to
report. A failed report does not change the exit status.
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

# pcache's caller waits for its file: after this the report continues in the background.
_PATIENCE_SECONDS = 5.0
# How long the report retries to reach the server.
_REPORT_SECONDS = "20"
# A shell's statuses for programs that it cannot start.
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
    """The real pcache, which gets our signals."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def run(self, command: Sequence[str]) -> int:
        """Runs it to its end; returns its status as `subprocess` has it. Raises OSError."""
        for number in _FORWARDED:
            # pcache ignores the signals that our caller ignores.
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
        # Makes clear that the version that follows is pcache's.
        _say(f"version {version()}; the version of {command[0]} follows")
    asked = read_options(words)
    place = Place(asked.scratch_dir) if asked is not None else None
    before = place.stamp() if place is not None else None
    try:
        status = _Child().run([*command, *words])
    except OSError as error:
        _say(
            f"cannot run {command[0]!r}, set PANDAWN_PCACHE_CMD to the real pcache: {error.strerror}"
        )
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
    # pcache's cleaner starts when pcache ends; the report waits for it.
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
        _say("not reported: set PANDAWN_SERVER to the server and PANDAWN_SITE to the site")
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
            # Not our stdout: readers of pcache's output must not wait for the report.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _say(f"not reported: {error}")
        return
    assert process.stdout is not None
    line = _first_line(process.stdout.fileno())
    if line is not None and line != b"reported":
        _say(f"not reported: {line.decode(errors='replace') or 'the report ended early'}")


def _first_line(descriptor: int) -> bytes | None:
    """The first line of a process's output; None after a timeout."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    text = b""
    while b"\n" not in text:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 4096)
        if not part:
            break
        text += part
    return text.partition(b"\n")[0]


def _say(text: str) -> None:
    sys.stderr.write(f"pandawn-pcache: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
