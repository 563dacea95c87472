"""A pilot's standing at the server: its identifier, its queue, and registering anew when it was forgotten."""

from __future__ import annotations

import importlib.metadata
import secrets
import socket
import threading

from pandawn.dispatcher.v1.pilot_pb2 import DeregisterPilotRequest, RegisterPilotRequest
from pandawn.queueconfig.v1.queueconfig_pb2 import Queue
from pandawn_pilot.backoff import persist
from pandawn_pilot.client import CallError, Connection, call
from pandawn_pilot.durations import seconds
from pandawn_pilot.logs import Log
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.stop import Stop
from pandawn_pilot.transports import TRANSPORTS
from pandawn_pilot.work_dir import WorkDir

# A goodbye is a courtesy; a pilot does not wait long for a server that does not answer.
GOODBYE_SECONDS = 5.0
_SHORTEST_HEARTBEAT_SECONDS = 0.2


class Session:
    """A registered pilot, for all threads. `pilot_id` changes when the server has forgotten it."""

    def __init__(
        self, connection: Connection, options: PilotOptions, work_dir: WorkDir, log: Log
    ) -> None:
        self._connection = connection
        self._options = options
        self._work_dir = work_dir
        self._log = log
        # Held while registering, which may last as long as the server is away: reading needs no
        # lock.
        self._registering = threading.Lock()
        self.pilot_id = ""
        self.queue = Queue()
        self.heartbeat_seconds = 0.0

    def register(self, stop: Stop) -> None:
        """Introduces the pilot. Raises CallError (refused, or out of reach for too long), StoppedError."""
        with self._registering:
            self._register(stop, self._options.connect_timeout)

    def register_again(self, forgotten: str, stop: Stop) -> None:
        """Registers anew unless another thread has done so since `forgotten` was the identifier."""
        with self._registering:
            if self.pilot_id == forgotten:
                self._log.warning("the server does not know this pilot any more, registering again")
                self._register(stop, None)

    def take_leave(self, reason: str) -> None:
        """Says goodbye. A server that does not answer will find out by itself."""
        if self.take_leave_of(self.pilot_id, reason):
            self._work_dir.forget_pilot()

    def take_leave_of(self, pilot_id: str, reason: str) -> bool:
        """Says goodbye for a pilot, which may be an earlier life of this one; False if unheard."""
        request = DeregisterPilotRequest(pilot_id=pilot_id, reason=reason)
        try:
            response = call(self._connection.dispatcher.DeregisterPilot, request, GOODBYE_SECONDS)
        except CallError as failure:
            self._log.warning("could not take leave of the server: %s", failure)
            return not failure.transient
        if response.requeued_count:
            self._log.info("the server takes back %d jobs", response.requeued_count)
        return True

    def _register(self, stop: Stop, give_up_after: float | None) -> None:
        request = RegisterPilotRequest(
            request_id=secrets.token_hex(16),
            queue=self._options.queue,
            node=self._options.node,
            host=socket.gethostname(),
            pilot_version=_version(),
            batch_id=self._options.batch_id,
            transports=sorted(TRANSPORTS),
        )
        response = persist(
            lambda: call(self._connection.dispatcher.RegisterPilot, request),
            "registration",
            self._log,
            stop=stop,
            give_up_after=give_up_after,
        )
        self.pilot_id = response.pilot_id
        self.queue = response.queue
        asked_for = self._options.heartbeat or seconds(response.heartbeat_interval)
        self.heartbeat_seconds = max(asked_for, _SHORTEST_HEARTBEAT_SECONDS)
        self._work_dir.note_pilot(response.pilot_id)
        self._log.set(pilot=response.pilot_id)
        self._log.info(
            "registered for queue %s of site %s, heartbeat each %.1f s",
            self.queue.name,
            self.queue.site,
            self.heartbeat_seconds,
        )


def _version() -> str:
    try:
        return importlib.metadata.version("pandawn")
    except importlib.metadata.PackageNotFoundError:
        # Run from a directory of sources.
        return "unknown"
