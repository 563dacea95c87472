"""The processes of a demo: starts, restarts and ends a server and pilots, by pid."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pandawn_tools.cli.errors import CliError, ExitStatus

# A busy laptop needs a few seconds; more than this is a failure.
_START_TIMEOUT_S = 60.0
# How long a process has after the first SIGTERM, and after the second, before it is killed.
_QUIET_STOP_S = 3.0
_STOP_TIMEOUT_S = 12.0
_POLL_S = 0.05
_TAIL_LINES = 10

_LISTENING = re.compile(r"^pandawn-server listening on ", re.MULTILINE)
_LOOPBACK = "127.0.0.1"
# Below the kernel's range for outgoing connections, so that the port is still free when a killed
# server is restarted.
_PORTS = range(20_000, 32_768)
_PORT_TRIES = 50


@dataclass(frozen=True, slots=True)
class Engines:
    """The server's database and catalog, as URLs."""

    database: str
    catalog: str

    @property
    def is_embedded(self) -> bool:
        """Whether the server itself migrates its database."""
        return self.database.startswith("sqlite:")


@dataclass
class Process:
    """A child process with its log, in its own session, so that Ctrl-C at the terminal does not reach it."""

    name: str
    command: Sequence[str]
    log: Path
    child: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts or restarts it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.child.poll() is None

    def ask_to_stop(self) -> None:
        """Sends SIGTERM."""
        if self.is_running:
            self.child.send_signal(signal.SIGTERM)

    def wait(self, deadline: float) -> None:
        """Waits until it ends, at most until the monotonic time `deadline`."""
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Sends SIGKILL if it is running, and waits."""
        self.child.kill()
        self.child.wait()

    def failure(self, what: str) -> CliError:
        """Returns an error that says what went wrong, with the end of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        ended = self.child.poll()
        status = "is still running" if ended is None else f"ended with status {ended}"
        return CliError(
            ExitStatus.WORK_FAILED,
            "DEMO_FAILED",
            f"{self.name} {what}; it {status}",
            details=lines[-_TAIL_LINES:] or ["its log is empty"],
            remedies=[f"the whole log: {self.log}"],
        )


class Cluster:
    """A server and its pilots on this machine."""

    def __init__(self, engines: Engines, logs: Path) -> None:
        """Chooses a port and starts nothing yet."""
        self._engines = engines
        self._logs = logs
        self._port = _free_port()
        self.server: Process | None = None
        self.pilots: list[Process] = []

    @property
    def address(self) -> str:
        """Address of the server; it stays the same after a restart, even by hand."""
        return f"{_LOOPBACK}:{self._port}"

    @property
    def server_pid(self) -> int:
        """Process id of the server that was started last."""
        if self.server is None:
            raise RuntimeError("the server was not started")
        return self.server.child.pid

    @property
    def running(self) -> list[Process]:
        """All running processes, pilots first."""
        everyone = [*self.pilots, *([self.server] if self.server else [])]
        return [process for process in everyone if process.is_running]

    def migrate(self) -> None:
        """Migrates a database that is not embedded.

        Raises:
            CliError: The command failed; with its output.
        """
        if self._engines.is_embedded:
            return
        command = [_program("pandawn-server"), "migrate", "--database", self._engines.database]
        process = Process("pandawn-server migrate", command, self._logs / "migrate.log")
        try:
            status = process.child.wait(_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise process.failure("did not end") from None
        if status:
            raise process.failure("could not prepare the database")

    def start_server(self) -> None:
        """Starts the server and waits until it listens.

        Raises:
            CliError: It does not listen; with the end of its log.
        """
        log = self._logs / "server.log"
        position = log.stat().st_size if log.exists() else 0
        command = [_program("pandawn-server"), "serve", "--listen", self.address]
        command += ["--database", self._engines.database, "--catalog", self._engines.catalog]
        # Here people read the log.
        command += ["--log-format", "console"]
        self.server = server = Process("the server", command, log)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _LISTENING.search(log.read_bytes()[position:].decode("utf-8", "replace")):
            if not server.is_running or time.monotonic() > deadline:
                error = server.failure("did not start")
                server.kill()
                raise error
            time.sleep(_POLL_S)

    def is_port_taken(self) -> bool:
        """Whether a server listens on the port: our child, or one started by hand."""
        try:
            socket.create_connection((_LOOPBACK, self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def start_pilot(self, node: str, queue: str, disk: Path) -> None:
        """Starts a pilot that plays the node `node` with its own local disk."""
        command = [
            *(_program("pandawn-pilot"), "run", "--server", self.address, "--queue", queue),
            *("--node", node, "--cache-dir", str(disk / "cache"), "--work-dir", str(disk / "work")),
            # Payloads use the demo's own Python, which other accounts may not be able to read.
            *("--payload-user", "same"),
        ]
        disk.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"pilot-{node}.log"
        self.pilots.append(Process(f"the pilot of {node}", command, log))

    def stop(self) -> None:
        """Ends all processes by pid: the pilots first, so that they can deregister."""
        for group in (self.pilots, [self.server] if self.server else []):
            # At the first signal a pilot takes no more jobs; at the second it ends the running ones.
            for patience_s in (_QUIET_STOP_S, _STOP_TIMEOUT_S):
                deadline = time.monotonic() + patience_s
                for process in group:
                    process.ask_to_stop()
                for process in group:
                    process.wait(deadline)
            for process in group:
                process.kill()


def _free_port() -> int:
    for _ in range(_PORT_TRIES):
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
            return port
    raise CliError(
        ExitStatus.WORK_FAILED,
        "DEMO_FAILED",
        f"there is no free port between {_PORTS.start} and {_PORTS.stop}",
        remedies=["stop some of the servers on this machine"],
    )


def _program(name: str) -> str:
    """Returns the path of a command of this distribution: next to the interpreter, or in PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise CliError(
            ExitStatus.USAGE,
            "DEMO_NOT_INSTALLED",
            f"the command {name} is not installed",
            remedies=["install it: pip install 'pandawn[demo]'"],
        )
    return found


def search_path() -> str:
    """Returns the PATH of payloads, in which `python3` is this interpreter."""
    path = os.environ.get("PATH", os.defpath)
    return os.pathsep.join([str(Path(sys.executable).parent), path])


def _environment() -> dict[str, str]:
    """The environment of the children: without the user's Pandawn settings, and without a proxy for loopback."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PANDAWN_")}
    environment["no_grpc_proxy"] = _LOOPBACK
    # Several payloads share few cores here.
    environment.setdefault("OMP_NUM_THREADS", "1")
    return environment
