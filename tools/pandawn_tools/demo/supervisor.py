"""Restarts processes that died, in place of the server's init system and the pilots' batch system.

So the demo continues if you kill one of its processes to see what happens. It leaves a server alone that you
restart by hand at the same address.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pandawn_tools.cli.errors import CliError
from pandawn_tools.demo.cluster import Cluster, Process

_POLL_S = 0.2
# Time to restart a killed server by hand.
_GRACE_S = 3.0
# A process that dies more often than this was not killed by hand.
_MOST_RESTARTS = 3


class Supervisor:
    """Watches a cluster while the context is entered."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        """`say` is called for each death and each restart, from another thread."""
        self._cluster = cluster
        self._say = say
        self._stop = threading.Event()
        self._restarts: Counter[str] = Counter()
        self._server_died: float | None = None
        self._is_foreign = False
        self._failure: CliError | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises `CliError` if a process died too often or cannot be restarted."""
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_S) and self._failure is None:
            try:
                self._tend_server()
                for pilot in self._cluster.pilots:
                    self._tend_pilot(pilot)
            except CliError as error:
                self._failure = error

    def _tend_server(self) -> None:
        server = self._cluster.server
        if server is None or server.is_running:
            return
        now = time.monotonic()
        if self._server_died is None:
            self._server_died = now
            self._say(f"the server (pid {server.child.pid}) is dead")
        if self._cluster.is_port_taken():
            if not self._is_foreign:
                self._is_foreign = True
                self._say("another server was started by hand at its address; it is left alone")
            return
        if now - self._server_died < _GRACE_S:
            return
        self._is_foreign = False
        self._count(server)
        try:
            self._cluster.start_server()
        except CliError:
            # A server started by hand may have taken the port, but may not listen yet.
            if not self._cluster.is_port_taken():
                raise
            return
        self._server_died = None
        self._say(f"the server runs again (pid {self._cluster.server_pid})")

    def _tend_pilot(self, pilot: Process) -> None:
        if pilot.is_running:
            return
        self._say(f"{pilot.name} (pid {pilot.child.pid}) is dead; starting another")
        self._count(pilot)
        pilot.start()

    def _count(self, process: Process) -> None:
        self._restarts[process.name] += 1
        if self._restarts[process.name] > _MOST_RESTARTS:
            raise process.failure(f"died {_MOST_RESTARTS + 1} times")
