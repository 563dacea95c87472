"""Polls the server for jobs: one request at a time, retried until answered, cancelled when draining."""

from __future__ import annotations

import secrets
import time

import grpc

from pandawn.common.v1.common_pb2 import Requirements
from pandawn.dispatcher.v1.dispatcher_pb2 import AcquireJobsRequest, AcquireJobsResponse
from pandawn.filecatalog.v1.filecatalog_pb2 import CacheState
from pandawn_client.calls import call
from pandawn_client.connection import Connection
from pandawn_client.durations import duration
from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError, failure_of
from pandawn_pilot.logs import Log
from pandawn_pilot.server.session import Session
from pandawn_pilot.stop import Stop

# Margin of the call's deadline over the time that the server may hold the poll.
_MARGIN_SECONDS = 15.0
_POLL_SECONDS = 0.1
# To ask for the response to a cancelled request.
_SALVAGE_SECONDS = 5.0
_NOTHING = AcquireJobsResponse()


class Acquirer:
    """Polls for jobs in a session."""

    def __init__(self, connection: Connection, session: Session, log: Log) -> None:
        self._connection = connection
        self._session = session
        self._log = log

    def acquire(
        self,
        max_jobs: int,
        wait_seconds: float,
        offer: Requirements,
        cache: CacheState | None,
        drain: Stop,
        give_up_after: float | None,
    ) -> AcquireJobsResponse:
        """Asks for up to `max_jobs` jobs.

        When `drain` is set meanwhile, returns the jobs that the server has leased by then; the caller
        must release them. Raises CallError when the server refuses, or does not respond for
        `give_up_after` seconds.
        """
        request = AcquireJobsRequest(
            pilot_id=self._session.pilot_id,
            request_id=secrets.token_hex(16),
            max_jobs=max_jobs,
            wait=duration(wait_seconds),
            offer=offer,
            cache=cache,
        )
        backoff = Backoff()
        begin = time.monotonic()
        was_sent = False
        failures = 0
        while drain.reason is None:
            was_sent = True
            count = self._session.count
            try:
                response = self._ask(request, wait_seconds + _MARGIN_SECONDS, drain)
            except CallError as failure:
                if self._session.is_over(failure, request.pilot_id):
                    self._session.register_again(count, failure, drain)
                    request.pilot_id = self._session.pilot_id
                    continue
                out_of_time = (
                    give_up_after is not None and time.monotonic() - begin >= give_up_after
                )
                if not failure.transient or out_of_time:
                    raise
                failures += 1
                if failures == 1:
                    self._log.warning("polling for jobs failed, retrying: %s", failure)
                # The pause ends early when a heartbeat succeeds.
                pause = backoff.next_pause(failure.retry_after)
                self._connection.contact.pause(drain, pause, failure.retry_after or 0.0)
            else:
                if failures:
                    self._log.info("polling for jobs works again after %d failures", failures)
                if response is not None:
                    self._connection.identity.renew(response.session_token)
                    self._session.queue.catch_up(response.queue_revision)
                    return response
        # A request that was never sent has no leases.
        return self._salvage(request) if was_sent else _NOTHING

    def _ask(
        self, request: AcquireJobsRequest, timeout: float, drain: Stop
    ) -> AcquireJobsResponse | None:
        """One call; None when it was cancelled, because of `drain` or of a new connection.

        The main thread makes these calls and must react to `drain`, so it does not block in gRPC.
        """
        line = self._connection.line
        future = self._connection.dispatcher.AcquireJobs.future(request, timeout=timeout)
        while not future.done():
            if drain.wait(_POLL_SECONDS) or line != self._connection.line:
                # Repeated on the new connection, the same request gets the same leases.
                future.cancel()
                return None
        try:
            return future.result()
        except grpc.RpcError as error:
            raise failure_of(error) from error

    def _salvage(self, request: AcquireJobsRequest) -> AcquireJobsResponse:
        """The response to a cancelled request, which may have got leases."""
        request.wait.Clear()
        try:
            method = self._connection.dispatcher.AcquireJobs
            return call(method, request, _SALVAGE_SECONDS)
        except CallError:
            # Then the leases, if any, end when the pilot deregisters, or expire.
            return _NOTHING
