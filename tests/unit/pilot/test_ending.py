"""Signals: what each is taken for, what happens when, and whose fault it is that a payload ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from pandawn_pilot.ending import (
    BATCH_GRACE_SECONDS,
    SIGNALS,
    Ending,
    batch_grace,
    wall_time_left,
)
from pandawn_pilot.errors import (
    MEMORY_EXCEEDED,
    PAYLOAD_FAILED,
    PAYLOAD_KILLED,
    PILOT_STOPPED,
    Fault,
    JobFailedError,
)
from tests.unit.pilot.factories import make_test_log

PATIENCE_S = 30


class Watched:
    """An ending, and what it has asked for, in order."""

    def __init__(self, grace: float | None) -> None:
        self.steps: list[str] = []
        self.over = threading.Event()
        self.ending = Ending(grace, make_test_log())
        self.ending.on_first = lambda why, within: self.steps.append(f"{why}, {within:.0f} s")
        self.ending.on_evict = lambda running: self.steps.append(f"evict running={running}")
        self.ending.on_halt = self._note("halt")
        self.ending.on_hurry = lambda: self.steps.append("hurry")
        self.ending.on_over = self._end

    def _note(self, step: str) -> Callable[[str], None]:
        return lambda _why: self.steps.append(step)

    def _end(self) -> None:
        self.steps.append("over")
        self.over.set()


def test_with_a_grace_all_is_over_within_it() -> None:
    watched = Watched(0.5)
    watched.ending.handle(signal.SIGUSR1)
    assert watched.over.wait(PATIENCE_S)
    assert watched.steps == [
        "received SIGUSR1, 0 s",
        "evict running=False",
        "evict running=True",
        "hurry",
        "halt",
        "over",
    ]


def test_without_a_grace_running_jobs_finish_unless_a_second_signal_comes() -> None:
    watched = Watched(None)
    watched.ending.handle(signal.SIGTERM)
    assert watched.steps == ["received SIGTERM, 120 s"]
    watched.ending.handle(signal.SIGINT)
    watched.ending.handle(signal.SIGTERM)
    assert watched.steps[1:] == ["halt", "hurry"]


def test_the_kernels_reminders_of_a_soft_limit_are_no_second_signal() -> None:
    watched = Watched(None)
    for _ in range(5):
        watched.ending.handle(signal.SIGXCPU)
    assert watched.steps == ["received SIGXCPU, 120 s"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGHUP"])
def test_what_batch_systems_warn_by_is_heeded(name: str) -> None:
    assert signal.Signals[name] in SIGNALS


@pytest.mark.parametrize(
    "variable", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "_CONDOR_SCRATCH_DIR"]
)
def test_a_batch_system_is_seen_in_the_environment(variable: str) -> None:
    assert batch_grace({variable: "17"}) == BATCH_GRACE_SECONDS
    assert batch_grace({"HOME": "/root"}) is None


def test_the_end_that_slurm_names_bounds_the_pilots_time() -> None:
    assert wall_time_left({}) is None
    assert wall_time_left({"SLURM_JOB_END_TIME": "soon"}) is None
    assert wall_time_left({"SLURM_JOB_END_TIME": "1"}) is None, "long past: some other clock"
    far = wall_time_left({"SLURM_JOB_END_TIME": str(2**40)})
    assert far is not None
    assert far > 10**9


def make_failure(fault: Fault = PAYLOAD_FAILED) -> JobFailedError:
    return JobFailedError(fault, "the payload ended with status 143")


@pytest.mark.parametrize("grace", [None, 3600.0])
@pytest.mark.parametrize(
    ("fault", "status"), [(PAYLOAD_KILLED, 138), (PAYLOAD_FAILED, 143), (PAYLOAD_FAILED, 1)]
)
def test_a_payload_that_went_down_with_its_pilot_has_not_failed(
    grace: float | None, fault: Fault, status: int
) -> None:
    watched = Watched(grace)
    watched.ending.handle(signal.SIGTERM)
    excused = watched.ending.excuse(make_failure(fault), status)
    assert excused.fault is PILOT_STOPPED
    assert "SIGTERM" in excused.text


def test_a_payload_that_fails_by_itself_is_not_excused() -> None:
    watched = Watched(None)
    assert watched.ending.excuse(make_failure(), 143).fault is PAYLOAD_FAILED
    watched.ending.handle(signal.SIGTERM)
    assert watched.ending.excuse(make_failure(MEMORY_EXCEEDED), 137).fault is MEMORY_EXCEEDED


def test_a_signal_that_hits_the_payload_a_moment_earlier_is_the_pilots_all_the_same() -> None:
    watched = Watched(None)
    later = threading.Timer(0.05, lambda: watched.ending.handle(signal.SIGTERM))
    later.start()
    assert watched.ending.excuse(make_failure(PAYLOAD_KILLED), 143).fault is PILOT_STOPPED
    later.join()
