"""The heartbeat: one thread that renews all leases of the pilot, whatever its jobs are doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import grpc

from pandawn.dispatcher.v1.dispatcher_pb2 import (
    JOB_COMMAND_CANCEL,
    RenewalResult,
    RenewLeasesRequest,
)
from pandawn_pilot.backoff import Backoff
from pandawn_pilot.catalog_client import state_message
from pandawn_pilot.catalog_loop import CatalogLoop
from pandawn_pilot.client import CallError, Connection, call
from pandawn_pilot.durations import seconds
from pandawn_pilot.live_job import JobTable, LiveJob
from pandawn_pilot.logs import Log
from pandawn_pilot.session import Session
from pandawn_pilot.stop import Stop, StoppedError, StopReason

# A heartbeat that takes longer is tried again on another connection.
TIMEOUT_SECONDS = 15.0
_REFUSALS = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


class Heartbeat:
    """Beats from `start` to `stop`. `on_drain` is told why the server wants the pilot to end.

    `on_refusal` is told that the server does not let the pilot in any more; the beat ends then.
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
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the beat."""
        self._end.request(StopReason.SHUTDOWN)
        self._now.set()
        self._thread.join()

    def beat_now(self) -> None:
        """Asks for a beat before its time."""
        self._now.set()

    def _run(self) -> None:
        failures = 0
        backoff = Backoff(self._session.heartbeat_seconds)
        while self._end.reason is None:
            pause = self._session.heartbeat_seconds
            try:
                self._beat()
            except CallError as failure:
                if failure.code in _REFUSALS and not failure.transient:
                    self._on_refusal(failure)
                    return
                failures += 1
                if failures == 1:
                    self._log.warning("heartbeat failed, trying again: %s", failure)
                pause = min(pause, backoff.next_pause(failure))
            except StoppedError:
                return
            except Exception:  # noqa: BLE001 (a worker loop)
                # The last loop that may die: without it the server would give all jobs away.
                self._log.exception("heartbeat met an error of the pilot's own")
            else:
                if failures:
                    self._log.info("heartbeat succeeded after %d failures", failures)
                failures, backoff = 0, Backoff(self._session.heartbeat_seconds)
            self._now.wait(pause)
            self._now.clear()

    def _beat(self) -> None:
        jobs = self._jobs.all()
        count, pilot_id = self._session.count, self._session.pilot_id
        state = state_message(self._catalog.state()) if self._catalog is not None else None
        asked = time.monotonic()
        request = RenewLeasesRequest(
            pilot_id=pilot_id, renewals=[job.renewal() for job in jobs], cache=state
        )
        try:
            response = call(self._connection.dispatcher.RenewLeases, request, TIMEOUT_SECONDS)
        except CallError as failure:
            if not self._session.is_over(failure, pilot_id):
                raise
            self._session.begin_again(count, failure, self._end)
            self._now.set()
            return
        self._connection.identity.renew(response.session_token)
        self._take(asked, jobs, response.results)
        self._session.queue.catch_up(response.queue_revision)
        if response.inventory_requested and self._catalog is not None:
            self._catalog.ask_inventory()
        if response.drain:
            self._on_drain("the queue is offline")

    def _take(
        self, asked: float, jobs: Sequence[LiveJob], results: Sequence[RenewalResult]
    ) -> None:
        for job, result in zip(jobs, results, strict=True):
            if result.status.reason == "STALE_LEASE":
                job.end(StopReason.STALE)
            elif result.status.code == 0:
                job.renewed(asked, seconds(result.lease_duration))
                if result.command == JOB_COMMAND_CANCEL:
                    job.end(StopReason.CANCELLED)
            else:
                self._log.warning(
                    "job %d was not renewed: %s", job.spec.job_id, result.status.message
                )
