"""How a pilot reacts to signals: drain, release jobs, stop payloads and exit, within the grace period.

Batch systems differ in how they warn a job, and all kill it in the end:

Slurm     SIGTERM, after KillWait (30 s) SIGKILL; --signal names another warning, often SIGUSR1
PBS       SIGTERM, after kill_delay (10 s; Torque 2 s) SIGKILL
HTCondor  SIGTERM or kill_sig, after MachineMaxVacateTime (10 min) SIGKILL
LSF       SIGUSR2 or SIGXCPU, then SIGINT, SIGTERM, SIGKILL, JOB_TERMINATE_INTERVAL (10 s) apart
SGE       SIGUSR1 and SIGXCPU for soft limits, SIGUSR2 before SIGKILL (60 s) with -notify

Often the signal reaches the payload as well; its exit is then not the payload's failure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

from pandawn_pilot.errors import PAYLOAD_FAILED, PAYLOAD_KILLED, PILOT_STOPPED, JobFailedError
from pandawn_pilot.logs import Log, drain_logs

SIGNALS = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGXCPU,
        signal.SIGALRM,
        signal.SIGPWR,
    }
)
# Set in jobs of a batch system; the first six hold the job's identifier.
BATCH_VARIABLES = (
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "OAR_JOB_ID",
    "COBALT_JOBID",
    "JOB_ID",
    "_CONDOR_SCRATCH_DIR",
    "_CONDOR_JOB_AD",
)
# Default grace in a batch system, from the first signal to the pilot's end.
BATCH_GRACE_SECONDS = 20.0
# Part of the grace for stopping payloads, storing their logs, and reporting ...
_ENDING_SECONDS, _ENDING_SHARE = 15.0, 0.1
# ... of which for the report and deregistering, and for the exit of the process.
_REPORT_SECONDS, _REPORT_SHARE = 3.0, 0.2
_EXIT_SECONDS, _EXIT_SHARE = 1.0, 0.07
# Without a grace, a service manager may still kill the pilot within this time.
WATCHFUL_SECONDS = 120.0
# A signal may hit the payload this long before the pilot, and the payload may take this long to end.
_NOTICE_SECONDS, _AFTERMATH_SECONDS = 1.0, 10.0


def batch_grace(environment: Mapping[str, str]) -> float | None:
    """The default grace in seconds: bounded in a batch system; None elsewhere, as long as jobs take."""
    return BATCH_GRACE_SECONDS if any(name in environment for name in BATCH_VARIABLES) else None


class Ending:
    """Handles the signals. `grace` in seconds; None: running jobs may finish.

    The pilot sets a callback for each step; callbacks run in other threads.
    """

    def __init__(self, grace: float | None, log: Log) -> None:
        self._grace = grace
        self._log = log
        self._signalled = threading.Event()
        self._first_at = 0.0
        self._count = 0
        self._first = ""
        # Drains, and asks the server for short leases, as the pilot may be killed soon.
        self.on_first: Callable[[str, float], None] = lambda _why, _within: None
        # Releases jobs whose payload has not started; with True, running ones too.
        self.on_evict: Callable[[bool], None] = lambda _running: None
        # Stops all jobs; then kills their payloads.
        self.on_halt: Callable[[str], None] = lambda _why: None
        self.on_hurry: Callable[[], None] = lambda: None
        # The grace is over: deregisters and exits, whatever still runs.
        self.on_over: Callable[[], None] = lambda: None

    @property
    def is_ending(self) -> bool:
        """Whether a signal has arrived."""
        return self._signalled.is_set()

    @property
    def watchful_seconds(self) -> float:
        """How many seconds after the first signal the pilot may be killed at any moment."""
        return WATCHFUL_SECONDS if self._grace is None else self._grace

    def handle(self, number: signal.Signals) -> None:
        """Handles one signal: the first starts the grace, the second stops all jobs, the third kills them."""
        if number is signal.SIGXCPU and self.is_ending:
            # The kernel repeats it each second for a process over its soft limit.
            return
        self._count += 1
        if self._count == 1:
            self._first, self._first_at = number.name, time.monotonic()
            self._signalled.set()
            self.on_first(f"received {number.name}", self.watchful_seconds)
            if self._grace is not None:
                threading.Thread(target=self._run_out, name="ending", daemon=True).start()
        elif self._count == 2:
            self._log.warning("received %s after %s, stopping all jobs", number.name, self._first)
            self.on_halt(f"received {self._first} and {number.name}")
        else:
            self.on_hurry()

    def excuse(self, failure: JobFailedError, exit_code: int) -> JobFailedError:
        """The failure of a payload; PILOT_STOPPED instead if the signal to the pilot caused it."""
        if failure.fault not in (PAYLOAD_KILLED, PAYLOAD_FAILED):
            return failure
        with contextlib.suppress(ValueError):
            if signal.Signals(exit_code - 128) in SIGNALS and self._signalled.wait(_NOTICE_SECONDS):
                return self._instead_of(failure)
        lately = time.monotonic() - self._first_at < _AFTERMATH_SECONDS
        if self.is_ending and (lately or self._grace is not None):
            return self._instead_of(failure)
        return failure

    def _instead_of(self, failure: JobFailedError) -> JobFailedError:
        return JobFailedError(
            PILOT_STOPPED, f"the pilot received {self._first}, and {failure.text} on that"
        )

    def _run_out(self) -> None:
        assert self._grace is not None
        grace = self._grace
        end = self._first_at + grace
        self._log.info("draining: the pilot exits within %.0f s", grace)
        self.on_evict(False)  # noqa: FBT003 (as declared above)
        _sleep_until(end - min(grace, max(_ENDING_SECONDS, grace * _ENDING_SHARE)))
        self.on_evict(True)  # noqa: FBT003
        _sleep_until(end - min(_REPORT_SECONDS, grace * _REPORT_SHARE))
        self.on_hurry()
        self.on_halt(f"received {self._first}")
        _sleep_until(end - min(_EXIT_SECONDS, grace * _EXIT_SHARE))
        self.on_over()


def wall_time_left(environment: Mapping[str, str]) -> float | None:
    """Seconds until the batch system ends this job; None if it does not say."""
    try:
        left = float(environment["SLURM_JOB_END_TIME"]) - time.time()
    except (KeyError, ValueError):
        return None
    return left if left > 0 else None


def exit_at_once(status: int) -> None:
    """Exits whatever the threads wait for; payloads end because their wrappers' input closes."""
    drain_logs(_EXIT_SECONDS)
    os._exit(status)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
