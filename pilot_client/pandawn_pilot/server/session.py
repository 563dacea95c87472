"""A pilot's identifier and session at the server, and registration again when either is over.

After an expired session the same registration continues the same pilot. If the server has ended the
pilot, or does not know the session, the registration makes a new pilot, which keeps jobs and reports.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import grpc

from pandawn.dispatcher.v1.pilot_pb2 import (
    DeregisterPilotRequest,
    DeregisterPilotResponse,
    RegisterPilotRequest,
    RegisterPilotResponse,
)
from pandawn_client.calls import begin, call, persist
from pandawn_client.connection import Connection
from pandawn_client.durations import seconds
from pandawn_client.refusals import CallError
from pandawn_pilot.chores import Chores
from pandawn_pilot.job.work_dir import WorkDir
from pandawn_pilot.logs import Log
from pandawn_pilot.node.node_key import node_key
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.release import version
from pandawn_pilot.server.queue_view import QueueView
from pandawn_pilot.stop import Stop
from pandawn_transports import TRANSPORTS

# Short, as the server finds out about a lost pilot anyway.
DEREGISTER_SECONDS = 5.0
# Timeout of a registration; it is retried on another connection.
REGISTER_SECONDS = 15.0
# To read the token file again before a registration.
TOKEN_SECONDS = 5.0
# Limits a loop with a server that accepts registrations but refuses the sessions that it returns.
MAX_REGISTRATIONS = 5
REGISTRATIONS_SECONDS = 60.0
# Reasons after which the server still knows the pilot: only its session is over.
_LASTING_REASONS = frozenset({"SESSION_EXPIRED", "CREDENTIALS_REQUIRED"})
_SHORTEST_HEARTBEAT_SECONDS = 0.2


class Session:
    """A registered pilot; thread-safe. `pilot_id` changes when the server does not know it any more."""

    def __init__(
        self,
        connection: Connection,
        options: PilotOptions,
        work_dir: WorkDir,
        queue: QueueView,
        refresh_token: Callable[[], None],
        log: Log,
        chores: Chores,
    ) -> None:
        self._connection = connection
        self._options = options
        self._work_dir = work_dir
        self._refresh_token = refresh_token
        self._chores = chores
        self._offered_heartbeat_seconds = 0.0
        self._log = log
        # Held while registering, which may last as long as an outage; readers need no lock.
        self._registering = threading.Lock()
        self._request_id = ""
        self._registrations: deque[float] = deque(maxlen=MAX_REGISTRATIONS)
        # Number of registrations: a caller reads it before a call, and passes it to `register_again`.
        self.count = 0
        self.pilot_id = ""
        self.queue = queue

    @property
    def heartbeat_seconds(self) -> float:
        """Interval between heartbeats: from the option, else from the queue."""
        interval = self._options.heartbeat or seconds(
            self.queue.latest.parameters.heartbeat_interval
        )
        return max(interval or self._offered_heartbeat_seconds, _SHORTEST_HEARTBEAT_SECONDS)

    def register(self, stop: Stop) -> None:
        """Registers the pilot. Raises CallError (refused, or unreachable for too long) and StoppedError."""
        with self._registering:
            self._register(stop, self._options.connect_timeout)

    def store_pilot_id(self) -> None:
        """Stores the pilot's identifier. Raises OSError: the work directory is not writable then."""
        self._work_dir.store_pilot(self.pilot_id)

    def register_again(self, count: int, failure: CallError, stop: Stop) -> None:
        """Registers again after a failure, unless another thread did so since `count`.

        Call it when `is_over` is true. Raises CallError when the server refuses the pilot, and
        StoppedError.
        """
        with self._registering:
            if self.count != count:
                return
            if self._is_looping():
                failure.transient = False
                raise failure
            if failure.reason in _LASTING_REASONS:
                self._log.warning("the session is over, registering again: %s", failure)
            else:
                self._log.warning(
                    "the server does not know this pilot, registering a new one: %s", failure
                )
                self._request_id = ""
            self._register_or_replace(stop, None)
            pilot_id = self.pilot_id
            self._chores.later(lambda: self._work_dir.store_pilot(pilot_id))

    def _register_or_replace(self, stop: Stop, give_up_after: float | None) -> None:
        try:
            self._register(stop, give_up_after)
        except CallError as refused:
            if refused.reason != "PILOT_NOT_FOUND":
                raise
            # The server ended the pilot while its session was over.
            self._request_id = ""
            self._register(stop, give_up_after)

    def is_over(self, failure: CallError, pilot_id: str) -> bool:
        """Whether a call by `pilot_id` failed because its session or registration is over."""
        if failure.code is grpc.StatusCode.PERMISSION_DENIED:
            # The call had the old identifier and the new session.
            return failure.reason == "NOT_YOUR_PILOT" and pilot_id != self.pilot_id
        return (
            failure.code is grpc.StatusCode.UNAUTHENTICATED or failure.reason == "PILOT_NOT_FOUND"
        )

    def deregister(self, reason: str) -> None:
        """Deregisters this pilot. Logs a failure: the server notices lost pilots anyway."""
        if self.deregister_pilot(self.pilot_id, reason):
            self._work_dir.forget_pilot()

    def deregister_pilot(self, pilot_id: str, reason: str) -> bool:
        """Deregisters a pilot, maybe one of an earlier run; False if the server was unreachable."""
        request = DeregisterPilotRequest(pilot_id=pilot_id, reason=reason)
        try:
            response = self._call_deregister(request)
        except CallError as failure:
            self._log.warning("cannot deregister: %s", failure)
            return not failure.transient
        if response.requeued_count:
            self._log.info("the server requeues %d jobs", response.requeued_count)
        return True

    def _call_deregister(self, request: DeregisterPilotRequest) -> DeregisterPilotResponse:
        method = self._connection.dispatcher.DeregisterPilot
        try:
            return call(method, request, DEREGISTER_SECONDS)
        except CallError as failure:
            if failure.reason not in _LASTING_REASONS:
                raise
            # The session has just expired, and the heartbeat that would renew it has ended.
            with self._registering:
                self._register(Stop(), DEREGISTER_SECONDS)
            return call(method, request, DEREGISTER_SECONDS)

    def _is_looping(self) -> bool:
        recent = [at for at in self._registrations if time.monotonic() - at < REGISTRATIONS_SECONDS]
        return len(recent) == MAX_REGISTRATIONS

    def _register(self, stop: Stop, give_up_after: float | None) -> None:
        # The file may be on a disk that hangs.
        self._chores.within(TOKEN_SECONDS, self._refresh_token)
        self._registrations.append(time.monotonic())
        self._request_id = self._request_id or secrets.token_hex(16)
        request = RegisterPilotRequest(
            request_id=self._request_id,
            queue=self._options.queue,
            node=self._options.node,
            host=socket.gethostname(),
            pilot_version=version(),
            batch_id=self._options.batch_id,
            transports=sorted(TRANSPORTS),
            node_key=node_key(),
        )
        response = persist(
            lambda: self._ask_to_register(request),
            "registration",
            self._log,
            stop=stop,
            give_up_after=give_up_after,
        )
        self._connection.identity.begin(response.session_token)
        self.count += 1
        self.pilot_id = response.pilot_id
        self._offered_heartbeat_seconds = seconds(response.heartbeat_interval)
        self._log.set(pilot=response.pilot_id)
        self._log.info(
            "registered for queue %s of site %s, heartbeat every %.1f s",
            response.queue.name,
            response.queue.parameters.site,
            self.heartbeat_seconds,
        )
        self.queue.take(response.queue, is_registration=True)

    def _ask_to_register(self, request: RegisterPilotRequest) -> RegisterPilotResponse:
        try:
            return begin(self._connection.dispatcher.RegisterPilot, request, REGISTER_SECONDS)
        except CallError as failure:
            if failure.code is grpc.StatusCode.UNAVAILABLE:
                failure.add(self._connection.explain())
            raise
