"""A pilot's standing at the server: its identifier, its session, and registering anew when either is over.

A session that has expired is begun again by the same registration, and the pilot stays who it is. A
pilot that the server has ended, or a session that it does not know, makes a new pilot of it; its jobs
and its reports go with it.
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

# A goodbye is a courtesy; a pilot does not wait long for a server that does not answer.
GOODBYE_SECONDS = 5.0
# A registration; one that is not answered is repeated, on another line.
REGISTER_SECONDS = 15.0
# For reading a token again before that.
TOKEN_SECONDS = 5.0
# A server that takes registrations and not the sessions that it gives for them is not asked for ever.
MAX_BEGINNINGS = 5
BEGINNINGS_SECONDS = 60.0
# The server knows the pilot: only its session is over. Of all else it says that it does not.
_LASTING_REASONS = frozenset({"SESSION_EXPIRED", "CREDENTIALS_REQUIRED"})
_SHORTEST_HEARTBEAT_SECONDS = 0.2


class Session:
    """A registered pilot, for all threads. `pilot_id` changes when the server has forgotten it."""

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
        # Held while registering, which may last as long as the server is away: reading needs no
        # lock.
        self._registering = threading.Lock()
        self._request_id = ""
        self._beginnings: deque[float] = deque(maxlen=MAX_BEGINNINGS)
        # Grows with each registration: who makes a call notes it before, and tells it after.
        self.count = 0
        self.pilot_id = ""
        self.queue = queue

    @property
    def heartbeat_seconds(self) -> float:
        """Time between two heartbeats: as the option says, else as the queue says now."""
        said = self._options.heartbeat or seconds(self.queue.latest.parameters.heartbeat_interval)
        return max(said or self._offered_heartbeat_seconds, _SHORTEST_HEARTBEAT_SECONDS)

    def register(self, stop: Stop) -> None:
        """Introduces the pilot. Raises CallError (refused, or out of reach for too long), StoppedError."""
        with self._registering:
            self._register(stop, self._options.connect_timeout)

    def note(self) -> None:
        """Notes on disk who the pilot is. Raises OSError: who cannot write there can do no job."""
        self._work_dir.note_pilot(self.pilot_id)

    def begin_again(self, count: int, failure: CallError, stop: Stop) -> None:
        """Registers anew after such a failure, unless that was done since `count`.

        To be called where `is_over` says so. Raises CallError when the server does not let the pilot
        in any more, and StoppedError.
        """
        with self._registering:
            if self.count != count:
                return
            if self._is_circling():
                failure.transient = False
                raise failure
            if failure.reason in _LASTING_REASONS:
                self._log.warning("the session is over, registering again: %s", failure)
            else:
                self._log.warning("the pilot is known no more, registering another: %s", failure)
                self._request_id = ""
            self._register_anew(stop, None)
            pilot_id = self.pilot_id
            self._chores.later(lambda: self._work_dir.note_pilot(pilot_id))

    def _register_anew(self, stop: Stop, give_up_after: float | None) -> None:
        try:
            self._register(stop, give_up_after)
        except CallError as refused:
            if refused.reason != "PILOT_NOT_FOUND":
                raise
            # It ended while its session was over.
            self._request_id = ""
            self._register(stop, give_up_after)

    def is_over(self, failure: CallError, pilot_id: str) -> bool:
        """Whether a call that `pilot_id` made failed because its standing is over."""
        if failure.code is grpc.StatusCode.PERMISSION_DENIED:
            # Made under the identifier of before, with the session of now.
            return failure.reason == "NOT_YOUR_PILOT" and pilot_id != self.pilot_id
        return (
            failure.code is grpc.StatusCode.UNAUTHENTICATED or failure.reason == "PILOT_NOT_FOUND"
        )

    def take_leave(self, reason: str) -> None:
        """Says goodbye. A server that does not answer will find out by itself."""
        if self.take_leave_of(self.pilot_id, reason):
            self._work_dir.forget_pilot()

    def take_leave_of(self, pilot_id: str, reason: str) -> bool:
        """Says goodbye for a pilot, which may be an earlier life of this one; False if unheard."""
        request = DeregisterPilotRequest(pilot_id=pilot_id, reason=reason)
        try:
            response = self._say_goodbye(request)
        except CallError as failure:
            self._log.warning("could not take leave of the server: %s", failure)
            return not failure.transient
        if response.requeued_count:
            self._log.info("the server takes back %d jobs", response.requeued_count)
        return True

    def _say_goodbye(self, request: DeregisterPilotRequest) -> DeregisterPilotResponse:
        method = self._connection.dispatcher.DeregisterPilot
        try:
            return call(method, request, GOODBYE_SECONDS)
        except CallError as failure:
            if failure.reason not in _LASTING_REASONS:
                raise
            # The session ended just now, and no heartbeat is there any more to begin another.
            with self._registering:
                self._register(Stop(), GOODBYE_SECONDS)
            return call(method, request, GOODBYE_SECONDS)

    def _is_circling(self) -> bool:
        recent = [at for at in self._beginnings if time.monotonic() - at < BEGINNINGS_SECONDS]
        return len(recent) == MAX_BEGINNINGS

    def _register(self, stop: Stop, give_up_after: float | None) -> None:
        # The file may lie on a disk that does not answer.
        self._chores.within(TOKEN_SECONDS, self._refresh_token)
        self._beginnings.append(time.monotonic())
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
            "registered for queue %s of site %s, heartbeat each %.1f s",
            response.queue.name,
            response.queue.parameters.site,
            self.heartbeat_seconds,
        )
        self.queue.take(response.queue, anew=True)

    def _ask_to_register(self, request: RegisterPilotRequest) -> RegisterPilotResponse:
        try:
            return begin(self._connection.dispatcher.RegisterPilot, request, REGISTER_SECONDS)
        except CallError as failure:
            if failure.code is grpc.StatusCode.UNAVAILABLE:
                failure.add(self._connection.explain())
            raise
