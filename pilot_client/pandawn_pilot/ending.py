"""How a pilot ends when it is told to: whom it tells, what its jobs may still do, and for how long.

Batch systems warn and end their jobs each in a way of its own, and all of them kill in the end:

Slurm     SIGTERM, after KillWait (30 s) SIGKILL; --signal names another warning, often SIGUSR1
PBS       SIGTERM, after kill_delay (10 s; Torque 2 s) SIGKILL
HTCondor  SIGTERM or what kill_sig says, after MachineMaxVacateTime (10 min) SIGKILL
LSF       SIGUSR2 or SIGXCPU, then SIGINT, SIGTERM, SIGKILL, JOB_TERMINATE_INTERVAL (10 s) apart
SGE       SIGUSR1 and SIGXCPU for soft limits, SIGUSR2 before SIGKILL (60 s) with -notify

Often they send it to the payload as well: what a payload makes of that is not its failure.
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
# Set for the jobs of a batch system; those at the beginning tell the identifier.
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
# Where it is seen, from the first signal to the pilot's end, unless an option says otherwise.
BATCH_GRACE_SECONDS = 20.0
# Of the grace: for ending payloads, storing their logs, and reporting ...
_ENDING_SECONDS, _ENDING_SHARE = 15.0, 0.1
# ... and of that, for the report and the goodbye alone, and for the process to end.
_REPORT_SECONDS, _REPORT_SHARE = 3.0, 0.2
_EXIT_SECONDS, _EXIT_SHARE = 1.0, 0.07
# Where there is no grace to go by, a service manager may still kill within this time.
WATCHFUL_SECONDS = 120.0
# The payload may be hit by a signal this much earlier than the pilot hears of it, or hears of it at
# all; and what it does about it may last this long.
_NOTICE_SECONDS, _AFTERMATH_SECONDS = 1.0, 10.0


def batch_grace(environment: Mapping[str, str]) -> float | None:
    """The grace where nobody said another: bounded in a batch system, else as long as jobs take."""
    return BATCH_GRACE_SECONDS if any(name in environment for name in BATCH_VARIABLES) else None


class Ending:
    """Takes the signals. `grace` in seconds; None: jobs may take as long as they like.

    The pilot gives what is to be done at each step; they are called by threads of their own.
    """

    def __init__(self, grace: float | None, log: Log) -> None:
        self._grace = grace
        self._log = log
        self._told = threading.Event()
        self._told_at = 0.0
        self._count = 0
        self._first = ""
        # Takes no more jobs, and tells the server that the pilot may be gone in a moment.
        self.on_first: Callable[[str, float], None] = lambda _why, _within: None
        # Gives back what has not begun to run; then what runs, too.
        self.on_evict: Callable[[bool], None] = lambda _running: None
        # Ends all at once; then without any politeness.
        self.on_halt: Callable[[str], None] = lambda _why: None
        self.on_hurry: Callable[[], None] = lambda: None
        # Time is up: whatever still runs, the server is told.
        self.on_over: Callable[[], None] = lambda: None

    @property
    def is_told(self) -> bool:
        """Whether the pilot was told to end."""
        return self._told.is_set()

    @property
    def watchful_seconds(self) -> float:
        """How long after the first signal the pilot has to expect to be killed at any moment."""
        return WATCHFUL_SECONDS if self._grace is None else self._grace

    def heed(self, number: signal.Signals) -> None:
        """Takes one signal: the first gives the grace, the second ends all, the third kills."""
        if number is signal.SIGXCPU and self.is_told:
            # Of a process over its soft limit the kernel reminds each second.
            return
        self._count += 1
        if self._count == 1:
            self._first, self._told_at = number.name, time.monotonic()
            self._told.set()
            self.on_first(f"received {number.name}", self.watchful_seconds)
            if self._grace is not None:
                threading.Thread(target=self._run_out, name="ending", daemon=True).start()
        elif self._count == 2:
            self._log.warning("received %s after %s, ending all jobs", number.name, self._first)
            self.on_halt(f"received {self._first} and {number.name}")
        else:
            self.on_hurry()

    def excuse(self, failure: JobFailedError, exit_code: int) -> JobFailedError:
        """The failure of a payload, or that of the pilot's end if it is what has ended the payload."""
        if failure.fault not in (PAYLOAD_KILLED, PAYLOAD_FAILED):
            return failure
        with contextlib.suppress(ValueError):
            if signal.Signals(exit_code - 128) in SIGNALS and self._told.wait(_NOTICE_SECONDS):
                return self._instead_of(failure)
        lately = time.monotonic() - self._told_at < _AFTERMATH_SECONDS
        if self.is_told and (lately or self._grace is not None):
            return self._instead_of(failure)
        return failure

    def _instead_of(self, failure: JobFailedError) -> JobFailedError:
        return JobFailedError(
            PILOT_STOPPED, f"the pilot received {self._first}, and {failure.text} on that"
        )

    def _run_out(self) -> None:
        assert self._grace is not None
        grace = self._grace
        end = self._told_at + grace
        self._log.info("ends within %.0f s", grace)
        self.on_evict(False)  # noqa: FBT003 (as declared above)
        _sleep_until(end - min(grace, max(_ENDING_SECONDS, grace * _ENDING_SHARE)))
        self.on_evict(True)  # noqa: FBT003
        _sleep_until(end - min(_REPORT_SECONDS, grace * _REPORT_SHARE))
        self.on_hurry()
        self.on_halt(f"received {self._first}")
        _sleep_until(end - min(_EXIT_SECONDS, grace * _EXIT_SHARE))
        self.on_over()


def wall_time_left(environment: Mapping[str, str]) -> float | None:
    """Seconds that the batch system gives this job from now on, where it tells; None where not."""
    try:
        left = float(environment["SLURM_JOB_END_TIME"]) - time.time()
    except (KeyError, ValueError):
        return None
    return left if left > 0 else None


def exit_at_once(status: int) -> None:
    """Ends the process whatever its threads wait for; payloads end with their wrappers' input."""
    drain_logs(_EXIT_SECONDS)
    os._exit(status)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
