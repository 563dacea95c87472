"""Whether a failed attempt is tried again."""

from __future__ import annotations

from pandawn_server.domain.jobs import JobError, JobState

PERMANENT_REASONS = frozenset(
    {
        # The sizes do not change by trying again.
        "INPUT_TOO_LARGE",
        # The command is not in the user's code: no node will have it.
        "PAYLOAD_NOT_FOUND",
        "PAYLOAD_NOT_EXECUTABLE",
        # Limits of the queue or of the task: the next attempt would run into them just as well.
        "WALL_TIME_EXCEEDED",
        "WORK_DIR_TOO_LARGE",
    }
)
"""Reasons of errors that another attempt would meet again."""


def state_after_failure(
    error: JobError, failures: int, max_attempts: int, *, cancel_requested: bool
) -> JobState:
    """The state of a job after an attempt failed; `failures` includes this one.

    A job that somebody asked to cancel is not tried again, whatever its attempt ended in.
    """
    if cancel_requested:
        return JobState.CANCELLED
    if error.reason in PERMANENT_REASONS or failures >= max_attempts:
        return JobState.FAILED
    return JobState.ACTIVATED
