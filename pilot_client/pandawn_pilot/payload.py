"""Runs one payload under its wrapper and holds it to its limits."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pandawn_pilot import payload_wrapper
from pandawn_pilot.accounts import Account
from pandawn_pilot.disk_use import directory_bytes, free_bytes
from pandawn_pilot.errors import (
    MEMORY_EXCEEDED,
    NO_LOCAL_SPACE,
    PAYLOAD_FAILED,
    PAYLOAD_KILLED,
    PAYLOAD_NOT_EXECUTABLE,
    PAYLOAD_NOT_FOUND,
    WORK_DIR_TOO_LARGE,
    WRAPPER_VANISHED,
    Fault,
    JobFailedError,
)
from pandawn_pilot.payload_command import clean_environment
from pandawn_pilot.process_tree import proportional_bytes, session_members, tree_use
from pandawn_pilot.stop import Stop, StopReason

# How often memory, disk and time are looked at.
LOOK_SECONDS = 1.0
# The share of time that looking at a large work directory may take.
LOOK_SHARE = 0.05
# From SIGTERM to SIGKILL.
GRACE_SECONDS = 10.0
# From SIGKILL to giving up on a process that waits for a dead disk.
PATIENCE_SECONDS = 30.0
# With less than this free, a disk is full.
FULL_DISK_BYTES = 1024 * 1024
_POLL_SECONDS = 0.2
_STDERR_TAIL_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Use:
    """What a payload has used; memory is the largest seen, the others are sums."""

    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    work_dir_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PayloadLimits:
    """What a payload may use; 0 and None: no limit. `wall_fault` is the reason when time is up."""

    wall_seconds: float | None
    wall_fault: Fault
    work_dir_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class PayloadEnd:
    """How a payload ended: its status as a shell would give it, and the failure, if it is one."""

    exit_code: int
    failure: JobFailedError | None
    use: Use


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, where, and the files that take what it prints.

    What counts for the size of the work directory is all below `measured`. `account` None: the
    pilot's own.
    """

    arguments: list[str]
    environment: dict[str, str]
    work_dir: Path
    stdout: Path
    stderr: Path
    measured: Path
    account: Account | None = None


def run_payload(
    program: Program, limits: PayloadLimits, on_use: Callable[[Use], None], stop: Stop
) -> PayloadEnd:
    """Runs the program to its end, or ends it: when a limit is passed or `stop` is set.

    Returns in any case but one: JobFailedError (WRAPPER_VANISHED) when the end could not be
    learned.
    """
    return _Run(program, limits, on_use, stop).run()


class _Run:
    def __init__(
        self, program: Program, limits: PayloadLimits, on_use: Callable[[Use], None], stop: Stop
    ) -> None:
        self._program = program
        self._limits = limits
        self._on_use = on_use
        self._stop = stop
        self._use = Use()
        self._failure: JobFailedError | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._payload: int | None = None
        self._unread = b""

    def run(self) -> PayloadEnd:
        wrapper = subprocess.Popen(
            [sys.executable, "-I", "-S", payload_wrapper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # Of a signal to the pilot's group the payload's wrapper should hear nothing.
            start_new_session=True,
            cwd="/",
            # Of ours, what it needs to run, and nothing that a payload could read there.
            env=clean_environment(os.environ),
        )
        try:
            return self._run(wrapper)
        finally:
            # Its input ends here at the latest: then the wrapper kills what is left, and ends.
            assert wrapper.stdin is not None
            assert wrapper.stdout is not None
            wrapper.stdin.close()
            wrapper.stdout.close()
            try:
                wrapper.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                wrapper.kill()
                wrapper.wait()

    def _run(self, wrapper: subprocess.Popen[bytes]) -> PayloadEnd:
        account = self._program.account
        order = payload_wrapper.Order(
            arguments=self._program.arguments,
            environment=self._program.environment,
            directory=str(self._program.work_dir),
            stdout=str(self._program.stdout),
            stderr=str(self._program.stderr),
            max_file_bytes=self._limits.work_dir_bytes,
            uid=-1 if account is None else account.uid,
            gid=-1 if account is None else account.gid,
        )
        _send(wrapper, json.dumps(asdict(order)).encode() + b"\n")
        begin = time.monotonic()
        look_at = begin
        while True:
            for answer in self._answers(wrapper):
                if "failed" in answer:
                    return self._not_started(int(answer["failed"]))
                if "started" in answer:
                    self._payload = int(answer["started"])
                if "ended" in answer:
                    return self._ended(answer)
            now = time.monotonic()
            self._obey(wrapper, now)
            if now >= look_at:
                self._look(wrapper, now - begin)
                looked = time.monotonic() - now
                look_at = now + max(LOOK_SECONDS, looked / LOOK_SHARE)

    def _answers(self, wrapper: subprocess.Popen[bytes]) -> list[dict[str, float]]:
        assert wrapper.stdout is not None
        ready, _, _ = select.select([wrapper.stdout], [], [], _POLL_SECONDS)
        if not ready:
            return []
        piece = os.read(wrapper.stdout.fileno(), 65536)
        if not piece:
            self._clean_up_after_wrapper()
            raise self._failure or JobFailedError(
                WRAPPER_VANISHED, "the process that watches the payload was killed by somebody"
            )
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def _obey(self, wrapper: subprocess.Popen[bytes], now: float) -> None:
        """Carries out a wish to stop, politely first."""
        if self._stop.reason is StopReason.STALE and self._give_up_at is None:
            # Somebody else runs the job by now: no time for politeness.
            self._kill_at = now
        elif self._kill_at is None and (self._stop.reason or self._failure):
            _send(wrapper, b"T")
            self._kill_at = now + GRACE_SECONDS
        if self._kill_at is not None and now >= self._kill_at and self._give_up_at is None:
            _send(wrapper, b"K")
            self._give_up_at = now + PATIENCE_SECONDS
        if self._give_up_at is not None and now >= self._give_up_at:
            raise self._failure or JobFailedError(
                WRAPPER_VANISHED, "processes of the payload cannot be killed: they wait for a disk"
            )

    def _look(self, wrapper: subprocess.Popen[bytes], elapsed: float) -> None:
        """Measures, and notes the first limit that was passed."""
        limits = self._limits
        tree = tree_use(wrapper.pid)
        self._note(tree.cpu_seconds, tree.rss_bytes, directory_bytes(self._program.measured))
        if self._failure is not None:
            return
        if limits.wall_seconds is not None and elapsed > limits.wall_seconds:
            self._failure = JobFailedError(
                limits.wall_fault, f"the payload ran longer than {limits.wall_seconds:.0f} s"
            )
        elif 0 < limits.work_dir_bytes < self._use.work_dir_bytes:
            self._failure = self._too_large()
        elif 0 < limits.memory_bytes < tree.rss_bytes:
            # Shared pages were counted for each process: worth the slow look only now.
            used = proportional_bytes(wrapper.pid)
            if used > limits.memory_bytes:
                self._failure = JobFailedError(
                    MEMORY_EXCEEDED,
                    f"the payload used {used} bytes of memory, it may use {limits.memory_bytes}",
                )

    def _ended(self, answer: dict[str, float]) -> PayloadEnd:
        status = int(answer["ended"])
        self._note(
            answer["cpu_seconds"],
            int(answer["max_rss_bytes"]),
            directory_bytes(self._program.measured),
        )
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.WEXITSTATUS(status)
        limit = self._limits.work_dir_bytes
        if (
            self._failure is None
            and limit
            and (
                self._use.work_dir_bytes > limit
                # What a write beyond the limit of a single file ends in.
                or (code != 0 and self._use.work_dir_bytes >= limit)
                or number == signal.SIGXFSZ
            )
        ):
            self._failure = self._too_large()
        if self._failure is None and code != 0:
            self._failure = self._payload_failure(number, code)
        return PayloadEnd(code, self._failure, self._use)

    def _payload_failure(self, number: int, code: int) -> JobFailedError:
        free = free_bytes(self._program.measured)
        if free < FULL_DISK_BYTES:
            # Neither the payload's status nor its last words tell it: those found no room.
            return JobFailedError(
                NO_LOCAL_SPACE,
                f"the payload ended with status {code} on a full disk ({free} bytes are free)",
            )
        last_words = _last_line(self._program.stderr)
        said = f"; the last line of its stderr: {last_words}" if last_words else ""
        if number:
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            return JobFailedError(PAYLOAD_KILLED, f"the payload was killed by signal {name}{said}")
        return JobFailedError(PAYLOAD_FAILED, f"the payload ended with status {code}{said}")

    def _not_started(self, number: int) -> PayloadEnd:
        program = self._program.arguments[0]
        if number == errno.ENOENT:
            failure = JobFailedError(
                PAYLOAD_NOT_FOUND, f"{program}: no such program or interpreter"
            )
            return PayloadEnd(127, failure, self._use)
        why = os.strerror(number)
        if self._program.account is not None:
            why += f" (for account {self._program.account.name})"
        failure = JobFailedError(PAYLOAD_NOT_EXECUTABLE, f"{program} cannot be executed: {why}")
        return PayloadEnd(126, failure, self._use)

    def _too_large(self) -> JobFailedError:
        return JobFailedError(
            WORK_DIR_TOO_LARGE,
            f"the work directory has {self._use.work_dir_bytes} bytes,"
            f" it may have {self._limits.work_dir_bytes}",
        )

    def _note(self, cpu_seconds: float, rss_bytes: int, size_bytes: int) -> None:
        self._use = Use(
            max(self._use.cpu_seconds, cpu_seconds),
            max(self._use.max_rss_bytes, rss_bytes),
            size_bytes,
        )
        self._on_use(self._use)

    def _clean_up_after_wrapper(self) -> None:
        """Kills what can be found without the wrapper: the session that the payload began in."""
        if self._payload is None:
            return
        for process in session_members(self._payload):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)


def _send(wrapper: subprocess.Popen[bytes], content: bytes) -> None:
    assert wrapper.stdin is not None
    # A dead wrapper is noticed by the end of its output.
    with contextlib.suppress(BrokenPipeError):
        while content:
            content = content[os.write(wrapper.stdin.fileno(), content) :]


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _STDERR_TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
