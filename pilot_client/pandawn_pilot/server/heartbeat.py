"""The heartbeat: one thread that renews all leases of the pilot, whatever its jobs do.

It waits for the server only: never for a disk, nor for a lock that another process may hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import grpc

from pandawn.dispatcher.v1.dispatcher_pb2 import (
    JOB_COMMAND_CANCEL,
    RenewalResult,
    RenewLeasesRequest,
    RenewLeasesResponse,
)
from pandawn_client.calls import call, persist
from pandawn_client.connection import Connection
from pandawn_client.durations import duration, seconds
from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.client import state_message
from pandawn_pilot.catalog.loop import CatalogLoop
from pandawn_pilot.job.live_job import JobTable, LiveJob
from pandawn_pilot.logs import Log
from pandawn_pilot.node.clock import Jumps
from pandawn_pilot.server.session import Session
from pandawn_pilot.stop import Stop, StoppedError, StopReason

# The timeout of a heartbeat is this share of the shortest lease, within these bounds: one without a
# response is retried, on another connection, long before the lease expires.
_LEASE_SHARE = 0.25
_SHORTEST_TIMEOUT_SECONDS = 1.0
_LONGEST_TIMEOUT_SECONDS = 15.0
# Assumed lease of a pilot without jobs.
_IDLE_LEASE_SECONDS = 40.0
# How often the clocks are compared between two beats.
_LOOK_SECONDS = 1.0
# At most one log line per this time for clocks that keep jumping.
_QUIET_SECONDS = 60.0
# Lease length and interval of a pilot that may be killed at any moment. On a slow connection the lease
# is this many times the duration of a beat.
ENDING_LEASE_SECONDS = 4.0
ENDING_PAUSE_SECONDS = 1.0
_ENDING_BEATS = 8
_REFUSALS = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


class Heartbeat:
    """Beats from `start` to `stop`. Calls `on_drain` with the reason when the server drains the pilot.

    Calls `on_refusal` and ends when the server refuses the pilot for good.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        jobs: JobTable,
        catalog: CatalogLoop | None,
        on_drain: Callable[[str], None],
        on_refusal: Callable[[CallError], None],
        log: Log,
    ) -> None:
        self._connection = connection
        self._session = session
        self._jobs = jobs
        self._catalog = catalog
        self._on_drain = on_drain
        self._on_refusal = on_refusal
        self._log = log
        self._end = Stop()
        self._now = threading.Event()
        self._jumps = Jumps()
        self._quiet_until = float("-inf")
        # By time.monotonic(): until then the pilot may be killed at any moment.
        self._ending_until = float("-inf")
        self._beat_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and waits for it."""
        self._end.request(StopReason.SHUTDOWN)
        self._now.set()
        self._thread.join()

    def beat_now(self) -> None:
        """Requests a beat at once."""
        self._now.set()

    def expect_kill(self, within: float) -> None:
        """Requests short leases for `within` seconds, as the pilot may be killed at any moment."""
        self._ending_until = time.monotonic() + within
        self._now.set()

    def confirm(self, job: LiveJob) -> None:
        """Renews the job's lease at the server; returns once it is confirmed.

        Raises StoppedError when the lease is over, or when the job is abandoned meanwhile.
        """

        def ask() -> RenewLeasesResponse:
            try:
                return self._renew([job], None)
            except CallError as failure:
                # The heartbeat registers again or ends the job, so keep retrying here.
                self._now.set()
                failure.transient = True
                raise

        response = persist(
            ask,
            "lease check",
            self._log,
            stop=job.abandon,
            contact=self._connection.contact,
        )
        self._take([job], response.results)
        if response.results[0].status.code != 0:
            # Whatever the reason: nothing may be published without a lease.
            job.end(StopReason.STALE)
        job.abandon.check()

    def _run(self) -> None:
        failures = 0
        backoff = self._backoff()
        while self._end.reason is None:
            # A request from here on gets another beat after this one.
            self._now.clear()
            pause = self._pause()
            try:
                self._beat(failures)
            except CallError as failure:
                if failure.code in _REFUSALS and not failure.transient:
                    self._on_refusal(failure)
                    return
                failures += 1
                if failures == 1:
                    self._log.warning("heartbeat failed, retrying: %s", failure)
                pause = min(pause, backoff.next_pause(failure.retry_after))
            except StoppedError:
                return
            except Exception:  # noqa: BLE001 (a worker loop)
                # This loop must never die: without it the server would requeue all jobs.
                self._log.exception("heartbeat failed with an internal error")
            else:
                if failures:
                    self._log.info("heartbeat works again after %d failures", failures)
                failures, backoff = 0, self._backoff()
            self._wait(min(pause, self._pause()))

    def _backoff(self) -> Backoff:
        return Backoff(min(self._session.heartbeat_seconds, self._lease_seconds() * _LEASE_SHARE))

    def _lease_seconds(self) -> float:
        return self._jobs.shortest_lease() or _IDLE_LEASE_SECONDS

    def _pause(self) -> float:
        pause = self._session.heartbeat_seconds
        return min(pause, ENDING_PAUSE_SECONDS) if self._is_ending() else pause

    def _is_ending(self) -> bool:
        return time.monotonic() < self._ending_until

    def _wait(self, pause: float) -> None:
        """Sleeps until the next beat; returns early after a suspend, as leases have run on."""
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0 and not self._now.wait(min(left, _LOOK_SECONDS)):
            jump = self._jumps.look()
            if jump:
                if time.monotonic() >= self._quiet_until:
                    self._quiet_until = time.monotonic() + _QUIET_SECONDS
                    self._log.warning(
                        "the machine was suspended or its clock was set: %+.0f s", jump
                    )
                return

    def _beat(self, failures: int) -> None:
        jobs = self._jobs.all()
        count, pilot_id = self._session.count, self._session.pilot_id
        asked = time.monotonic()
        try:
            response = self._renew(jobs, self._catalog, failures)
        except CallError as failure:
            if not self._session.is_over(failure, pilot_id):
                raise
            self._session.register_again(count, failure, self._end)
            self._now.set()
            return
        self._beat_seconds = time.monotonic() - asked
        self._take(jobs, response.results)
        self._session.queue.catch_up_later(response.queue_revision)
        if response.inventory_requested and self._catalog is not None:
            self._catalog.ask_inventory()
        if response.drain:
            self._on_drain(response.drain_reason or "the server drains the pilot")

    def _renew(
        self, jobs: Sequence[LiveJob], catalog: CatalogLoop | None, failures: int = 0
    ) -> RenewLeasesResponse:
        """One call. Raises CallError."""
        state = catalog.state() if catalog is not None else None
        request = RenewLeasesRequest(
            pilot_id=self._session.pilot_id,
            renewals=[job.renewal() for job in jobs],
            cache=None if state is None else state_message(state),
        )
        if self._is_ending():
            longest = max(ENDING_LEASE_SECONDS, self._beat_seconds * _ENDING_BEATS)
            request.lease_duration.CopyFrom(duration(longest))
        # A slow connection gets more time at each retry.
        share = self._lease_seconds() * _LEASE_SHARE * (1 + failures / 2)
        timeout = min(max(share, _SHORTEST_TIMEOUT_SECONDS), _LONGEST_TIMEOUT_SECONDS)
        response = call(self._connection.dispatcher.RenewLeases, request, timeout)
        self._connection.identity.renew(response.session_token)
        return response

    def _take(self, jobs: Sequence[LiveJob], results: Sequence[RenewalResult]) -> None:
        if len(results) != len(jobs):
            raise ValueError(f"the server answered for {len(results)} of {len(jobs)} leases")
        for job, result in zip(jobs, results):
            if result.status.reason == "STALE_LEASE":
                job.end(StopReason.STALE)
            elif result.status.code == 0:
                job.renewed(seconds(result.lease_duration))
                if result.command == JOB_COMMAND_CANCEL:
                    job.end(StopReason.CANCELLED)
            else:
                self._log.warning(
                    "lease of job %d not renewed: %s", job.spec.job_id, result.status.message
                )
