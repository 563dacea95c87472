"""A leased job as all threads of the pilot see it: its lease, what it is doing, and whether it should stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pandawn.dispatcher.v1.dispatcher_pb2 import JobSpec, Lease, LeaseRef, LeaseRenewal
from pandawn.type.v1 import type_pb2
from pandawn_pilot.durations import seconds
from pandawn_pilot.payload import Use
from pandawn_pilot.stop import Stop, StopReason

# A lease that ends this soon is renewed before something is published under it.
LEASE_MARGIN_SECONDS = 2.0
_CONFIRM_POLL_SECONDS = 0.5


class LiveJob:
    """One attempt at one job, from its lease to its report. `asked` is when the lease was asked for.

    `stop` ends the work on it; `abandon` also ends what follows the work: log and report.
    """

    def __init__(self, lease: Lease, asked: float) -> None:
        self.lease = lease
        self.stop = Stop()
        self.abandon = Stop()
        self.phase = type_pb2.PHASE_STAGE_IN
        self.use = Use()
        self._valid_until = asked + seconds(lease.lease_duration)

    @property
    def spec(self) -> JobSpec:
        """What to do."""
        return self.lease.job

    @property
    def key(self) -> tuple[int, int]:
        """Job and attempt."""
        return (self.lease.job.job_id, self.lease.attempt)

    def end(self, reason: StopReason) -> None:
        """Asks for the end of the job; for STALE and SHUTDOWN also of what would follow it."""
        if reason is not StopReason.CANCELLED:
            self.abandon.request(reason)
        self.stop.request(reason)

    def renewed(self, asked: float, lease_seconds: float) -> None:
        """Notes a renewal that was asked for at `asked`: by our clock it holds at least that long."""
        self._valid_until = max(self._valid_until, asked + lease_seconds)

    def confirm(self, renew_now: Callable[[], None]) -> None:
        """Returns when the lease is valid for sure; asks for renewals until it is.

        Called before a file becomes visible: a pilot that was cut off from the server while its
        job was given to another must not overwrite what the other has stored. Raises StoppedError
        when the lease turns out to be over.
        """
        self.abandon.check()
        while time.monotonic() > self._valid_until - LEASE_MARGIN_SECONDS:
            renew_now()
            self.abandon.sleep(_CONFIRM_POLL_SECONDS)

    def reference(self) -> LeaseRef:
        """Names the lease."""
        return LeaseRef(
            job_id=self.spec.job_id, attempt=self.lease.attempt, lease_token=self.lease.lease_token
        )

    def renewal(self) -> LeaseRenewal:
        """What the next heartbeat says of the job."""
        return LeaseRenewal(
            job_id=self.spec.job_id,
            attempt=self.lease.attempt,
            lease_token=self.lease.lease_token,
            phase=self.phase,
            use=use_message(self.use),
        )


class JobTable:
    """The jobs that a pilot has, shared by its threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: dict[tuple[int, int], LiveJob] = {}

    def add(self, job: LiveJob) -> bool:
        """Takes a job in; False when it is there already."""
        with self._changed:
            return self._jobs.setdefault(job.key, job) is job

    def remove(self, job: LiveJob) -> None:
        """Lets a job go, and wakes who waits for that."""
        with self._changed:
            self._jobs.pop(job.key, None)
            self._changed.notify_all()

    def all(self) -> list[LiveJob]:
        """The jobs now."""
        with self._changed:
            return list(self._jobs.values())

    def wait_below(self, count: int, timeout: float) -> bool:
        """Waits until there are fewer than `count` jobs, at most `timeout` seconds; whether there are."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._jobs) < count, timeout)

    def __len__(self) -> int:
        with self._changed:
            return len(self._jobs)


def use_message(use: Use) -> type_pb2.ResourceUse:
    """Resource use as it goes over the wire."""
    return type_pb2.ResourceUse(
        cpu_seconds=use.cpu_seconds,
        max_rss_bytes=use.max_rss_bytes,
        work_dir_bytes=use.work_dir_bytes,
    )
