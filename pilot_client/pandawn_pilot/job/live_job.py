"""A leased job, shared by the pilot's threads: its lease, phase, resource use and stop flags."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1.dispatcher_pb2 import JobSpec, Lease, LeaseRenewal
from pandawn.dispatcher.v1.report_pb2 import LeaseRef
from pandawn_client.durations import seconds
from pandawn_pilot.payload.run import Use
from pandawn_pilot.stop import Stop, StopReason


class LiveJob:
    """One attempt at one job, from its lease to its report.

    `stop` ends the work; `abandon` also skips the log after it; `silence` ends the retries of the report,
    which go on after the lease: it may be over because the report was accepted.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.stop = Stop()
        self.abandon = Stop()
        self.silence = Stop()
        self.phase = common_pb2.PHASE_STAGE_IN
        self.use = Use()
        # Length of the lease at its last renewal.
        self.lease_seconds = seconds(lease.lease_duration)

    @property
    def spec(self) -> JobSpec:
        """What to do."""
        return self.lease.job

    @property
    def key(self) -> tuple[int, int]:
        """Job and attempt."""
        return (self.lease.job.job_id, self.lease.attempt)

    def end(self, reason: StopReason) -> None:
        """Stops the job; for STALE and SHUTDOWN also skips its log."""
        if reason in (StopReason.STALE, StopReason.SHUTDOWN):
            self.abandon.request(reason)
        if reason is StopReason.SHUTDOWN:
            self.silence.request(reason)
        self.stop.request(reason)

    def renewed(self, lease_seconds: float) -> None:
        """Records a renewal and its length in seconds."""
        self.lease_seconds = lease_seconds

    def confirm(self, ask: Callable[[LiveJob], None]) -> None:
        """Returns once the server has confirmed the lease.

        Called before a file becomes visible: a pilot that was disconnected or suspended must not
        overwrite the files of the pilot that has the job now. A local clock cannot show that, as it
        stops during a suspend. Raises StoppedError when the lease is over.
        """
        self.abandon.check()
        ask(self)

    def reference(self) -> LeaseRef:
        """The reference to the lease."""
        return LeaseRef(
            job_id=self.spec.job_id, attempt=self.lease.attempt, lease_token=self.lease.lease_token
        )

    def renewal(self) -> LeaseRenewal:
        """The job's entry in the next heartbeat."""
        return LeaseRenewal(
            lease=self.reference(), phase=self.phase, resource_use=use_message(self.use)
        )


class JobTable:
    """The jobs that a pilot has, shared by its threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: dict[tuple[int, int], LiveJob] = {}

    def add(self, job: LiveJob) -> bool:
        """Adds a job; False if it is there already."""
        with self._changed:
            return self._jobs.setdefault(job.key, job) is job

    def remove(self, job: LiveJob) -> None:
        """Removes a job, and wakes waiting threads."""
        with self._changed:
            self._jobs.pop(job.key, None)
            self._changed.notify_all()

    def all(self) -> list[LiveJob]:
        """All current jobs."""
        with self._changed:
            return list(self._jobs.values())

    def shortest_lease(self) -> float | None:
        """Length in seconds of the shortest lease; None without jobs."""
        return min((job.lease_seconds for job in self.all()), default=None)

    def wait_below(self, count: int, timeout: float) -> bool:
        """Waits until there are fewer than `count` jobs, at most `timeout` seconds; True if so."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._jobs) < count, timeout)

    def __len__(self) -> int:
        with self._changed:
            return len(self._jobs)


def use_message(use: Use) -> common_pb2.ResourceUse:
    """Resource use as a message."""
    return common_pb2.ResourceUse(
        cpu_seconds=use.cpu_seconds,
        max_rss_bytes=use.max_rss_bytes,
        work_dir_bytes=use.work_dir_bytes,
    )
