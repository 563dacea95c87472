"""The processes of the benchmark: starts them with a log, ends them by pid, reads their CPU time and memory."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_TAIL_BYTES = 2000
# Below the kernel's range for outgoing connections.
_PORTS = range(20_000, 32_768)
_PORT_TRIES = 100


class BenchError(Exception):
    """The benchmark cannot continue; the text says what failed, with its output."""


class ServerProcess:
    """A server as a child process, in its own session, so that Ctrl-C does not reach it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        is_ready: Callable[[], bool],
        *,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Starts it and waits until `is_ready`. As root it runs as `user`.

        Raises `BenchError` with the end of its log.
        """
        self._name = Path(command[0]).name
        self._log = log
        self._stop_signal = stop_signal
        account = user if os.geteuid() == 0 else None
        # If the benchmark is killed, its servers must end too.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "INT"] if setpriv else []
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*guard, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=account,
                group=account,
                extra_groups=[] if account else None,
                env=_environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"{self._name} did not start; its log ends with:\n{self.tail()}")
            time.sleep(_POLL_S)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-_TAIL_BYTES:]

    def stop(self) -> None:
        """Sends SIGTERM, waits, and kills it if it does not end."""
        if self._child.poll() is None:
            self._child.send_signal(self._stop_signal)
        try:
            self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def _environment() -> dict[str, str]:
    """The environment without the caller's own settings of Pandawn and of telemetry."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PANDAWN_", "OTEL_"))}


def free_port() -> int:
    """A free port on loopback."""
    for _ in range(_PORT_TRIES):
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise BenchError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def can_connect(port: int) -> bool:
    """Whether a process listens on a port of loopback."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, user and system, of all its threads.

    Read from the kernel's CPU clock of the process; utime + stime in /proc/PID/stat are rounded to
    hundredths of a second.
    """
    # CPUCLOCK_SCHED of a process, as in clock_getcpuclockid(3).
    return time.clock_gettime((~pid << 3) | 2)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def tree_cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its children, including those that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    alive = 0.0
    for child in children(pid):
        try:
            alive += cpu_seconds(child)
        except OSError:
            continue
    return cpu_seconds(pid) + ended + alive


def rss_mb(pid: int) -> float:
    """Resident memory of a process in megabytes (10^6)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
