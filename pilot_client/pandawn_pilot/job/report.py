"""Builds the report of an ended attempt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pandawn.common.v1 import common_pb2
from pandawn.common.v1.common_pb2 import JobError, Phase, PhaseTime
from pandawn.dispatcher.v1.report_pb2 import OUTCOME_FAILED, OUTCOME_FINISHED, JobReport, StoredFile
from pandawn_client.durations import duration
from pandawn_pilot.errors import Component, Fault, JobFailedError
from pandawn_pilot.job.live_job import LiveJob, use_message
from pandawn_pilot.job.stage_in import StageInSums

_COMPONENTS = {
    Component.PILOT: common_pb2.ERROR_COMPONENT_PILOT,
    Component.PAYLOAD: common_pb2.ERROR_COMPONENT_PAYLOAD,
}


class PhaseClock:
    """Sets a job's phase for the heartbeat, and measures each phase."""

    def __init__(self, job: LiveJob) -> None:
        self._job = job
        self._spent: dict[Phase.ValueType, float] = {}

    @contextmanager
    def phase(self, phase: Phase.ValueType) -> Iterator[None]:
        """Counts the time inside for the phase."""
        self._job.phase = phase
        begin = time.monotonic()
        try:
            yield
        finally:
            self._spent[phase] = self._spent.get(phase, 0.0) + time.monotonic() - begin

    def times(self) -> list[PhaseTime]:
        """Phases with their durations, in the order in which they started."""
        return [
            PhaseTime(phase=phase, duration=duration(spent)) for phase, spent in self._spent.items()
        ]


def make_report(
    job: LiveJob,
    *,
    failure: JobFailedError | None,
    exit_code: int | None,
    outputs: Sequence[StoredFile],
    log: StoredFile | None,
    sums: StageInSums,
    times: Sequence[PhaseTime],
) -> JobReport:
    """The report of an attempt: finished, unless there is a failure."""
    return JobReport(
        lease=job.reference(),
        outcome=OUTCOME_FINISHED if failure is None else OUTCOME_FAILED,
        exit_code=exit_code,
        error=None if failure is None else error_message(failure),
        outputs=outputs if failure is None else (),
        log=log,
        resource_use=use_message(job.use),
        input_bytes=sums.input_bytes,
        bytes_from_cache=sums.bytes_from_cache,
        phase_times=times,
    )


def error_message(failure: JobFailedError) -> JobError:
    """A failure as a message."""
    fault: Fault = failure.fault
    return JobError(
        component=_COMPONENTS[fault.component],
        code=fault.code,
        reason=fault.reason,
        text=failure.text,
    )
