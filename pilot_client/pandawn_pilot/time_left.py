"""How much time a pilot has left: in its batch job, while idle, and to start further jobs."""

from __future__ import annotations

from pandawn.queueconfig.v1.queue_pb2 import Queue
from pandawn_client.durations import seconds
from pandawn_pilot.node import clock
from pandawn_pilot.options import PilotOptions

# Kept of the pilot's time for stage-out and report; also the least that a new job needs.
ENDING_SECONDS = 60.0
ENDING_SHARE = 0.1


class TimeLeft:
    """The time of one pilot; spans are in seconds, None means no limit."""

    def __init__(self, options: PilotOptions) -> None:
        self._idle_exit = options.idle_exit
        self._began = self._idle_since = clock.now()
        self._ending = 0.0
        # By clock.now(): when payloads must end so that their outputs can still be stored.
        self.deadline: float | None = None
        if options.wall_time is not None:
            self._ending = min(ENDING_SECONDS, options.wall_time * ENDING_SHARE)
            self.deadline = self._began + options.wall_time - self._ending

    def record_work(self) -> None:
        """Records that the pilot has jobs now."""
        self._idle_since = clock.now()

    def for_payloads(self) -> float | None:
        """How long a payload that starts now may run."""
        return None if self.deadline is None else max(0.0, self.deadline - clock.now())

    def for_idling(self, *, has_jobs: bool) -> float | None:
        """How long the pilot may still wait for a job."""
        if self._idle_exit is None or has_jobs:
            return None
        return max(0.0, self._idle_exit - (clock.now() - self._idle_since))

    def why_over(self, queue: Queue, *, has_jobs: bool) -> str | None:
        """Why the pilot should take no more jobs; None while it may."""
        if self.deadline is not None and clock.now() > self.deadline - self._ending:
            return "out of wall time"
        if self.for_idling(has_jobs=has_jobs) == 0:
            return "idle"
        if self._for_beginning(queue) == 0:
            return "the queue's multi_job_window is over"
        return None

    def for_asking(self, queue: Queue, longest: float, *, has_jobs: bool) -> float:
        """How long the server may hold a poll for jobs, at most `longest`."""
        bounds = (
            self.for_payloads(),
            self.for_idling(has_jobs=has_jobs),
            self._for_beginning(queue),
        )
        return min([longest, *(bound for bound in bounds if bound is not None)])

    def _for_beginning(self, queue: Queue) -> float | None:
        """How long jobs may still start, by the queue's window."""
        window = seconds(queue.parameters.multi_job_window)
        return max(0.0, self._began + window - clock.now()) if window else None
