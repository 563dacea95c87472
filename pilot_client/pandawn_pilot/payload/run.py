"""Runs one payload under its wrapper and enforces its limits."""

from __future__ import annotations

import contextlib
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

from pandawn_pilot.errors import (
    FILE_SIZE_LIMITED,
    MEMORY_EXCEEDED,
    PAYLOAD_NOT_STARTED,
    WORK_DIR_TOO_LARGE,
    WRAPPER_VANISHED,
    Fault,
    JobFailedError,
)
from pandawn_pilot.node.disk_use import directory_use
from pandawn_pilot.payload.command import without_secrets
from pandawn_pilot.payload.ending import why_failed, why_not_started
from pandawn_pilot.payload.leftovers import end_processes_in
from pandawn_pilot.payload.oom import oom_kills
from pandawn_pilot.payload.process_tree import proportional_bytes, tree_use
from pandawn_pilot.payload.program import Program
from pandawn_pilot.payload.start import Order
from pandawn_pilot.sizes import size_text, size_texts
from pandawn_pilot.stop import Stop

# How often memory, disk and time are measured.
LOOK_SECONDS = 1.0
# Share of the time that measuring a large work directory may take.
LOOK_SHARE = 0.05
# From SIGTERM to SIGKILL.
GRACE_SECONDS = 10.0
# From SIGKILL to giving up on a process that waits for a hanging disk.
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.2
# The parent directory of this package, last in the wrapper's sys.path, and how the wrapper is started.
_CODE = Path(__file__).parents[2]
_PYTHON = (sys.executable, "-I", "-S", "-X", "utf8", "-c")
_IMPORT = "import sys; sys.path.append(sys.argv[1]); from pandawn_pilot.payload.wrapper import "
_WRAPPER = f"{_IMPORT}main; sys.exit(main())"
_TRIAL = f"{_IMPORT}try_namespaces; try_namespaces()"

# One line of the wrapper's output.
_Answer = dict[str, "float | str"]


@dataclass(frozen=True)
class Use:
    """Resource use of a payload; `max_rss_bytes` is the largest measured."""

    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    work_dir_bytes: int = 0


@dataclass(frozen=True)
class PayloadLimits:
    """Limits of a payload; 0 and None: no limit. `wall_fault` is the fault at the time limit."""

    wall_seconds: float | None
    wall_fault: Fault
    work_dir_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class PayloadEnd:
    """How a payload ended: its status as a shell returns it, the failure or None, and its use."""

    exit_code: int
    failure: JobFailedError | None
    use: Use


def why_not_separate() -> str | None:
    """Why payloads cannot have their own name spaces here; None if they can."""
    done = subprocess.run(
        [*_PYTHON, _TRIAL, str(_CODE)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env=without_secrets(os.environ),
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}"


def run_payload(
    program: Program,
    limits: PayloadLimits,
    on_use: Callable[[Use], None],
    stop: Stop,
    warn: Callable[[str], None] = lambda _: None,
) -> PayloadEnd:
    """Runs the program to its end; ends it when it exceeds a limit or `stop` is set.

    `warn` gets problems that do not end the payload. Raises JobFailedError in two cases only:
    WRAPPER_VANISHED when the payload's status is unknown, PAYLOAD_NOT_STARTED when the wrapper cannot be
    started.
    """
    return _Run(program, limits, on_use, stop, warn).run()


class _Run:
    def __init__(
        self,
        program: Program,
        limits: PayloadLimits,
        on_use: Callable[[Use], None],
        stop: Stop,
        warn: Callable[[str], None],
    ) -> None:
        self._program = program
        self._warn = warn
        self._limits = limits
        self._on_use = on_use
        self._stop = stop
        self._use = Use()
        self._failure: JobFailedError | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        # The keeper's process: the parent of all processes of the payload.
        self._keeper: int | None = None
        # The largest file that the kernel lets it write; 0: no limit.
        self._file_limit = 0
        self._setup: str | None = None
        self._measured = True
        self._unread = b""
        self._oom_kills = oom_kills()

    def run(self) -> PayloadEnd:
        try:
            wrapper = subprocess.Popen(
                [*_PYTHON, _WRAPPER, str(_CODE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # A signal to the pilot's group must not reach the payload's wrapper.
                start_new_session=True,
                cwd="/",
                # Without secrets: a payload can read its environment in /proc.
                env=without_secrets(os.environ),
            )
        except OSError as error:
            raise JobFailedError(
                PAYLOAD_NOT_STARTED, f"the node could not start the payload's wrapper: {error}"
            ) from error
        try:
            return self._run(wrapper)
        finally:
            # When its input closes, the wrapper kills what is left of the payload, and exits.
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
        order = Order(
            arguments=self._program.arguments,
            environment=self._program.environment,
            directory=str(self._program.work_dir),
            stdout=str(self._program.stdout),
            stderr=str(self._program.stderr),
            max_file_bytes=self._limits.work_dir_bytes,
            uid=-1 if account is None else account.uid,
            gid=-1 if account is None else account.gid,
            made=account is not None and account.made,
            separate=self._program.separate,
            setup=self._program.behind_setup,
        )
        _send(wrapper, json.dumps(asdict(order)).encode() + b"\n")
        begin = time.monotonic()
        look_at = begin
        while True:
            for answer in self._answers(wrapper):
                if "failed" in answer:
                    code, failure = why_not_started(
                        self._program, int(answer["failed"]), str(answer["step"])
                    )
                    return PayloadEnd(code, failure, self._use)
                if "ended" in answer:
                    return self._ended(answer)
                self._handle(answer)
            now = time.monotonic()
            self._stop_if_asked(wrapper, now)
            if now >= look_at:
                self._look(now - begin)
                looked = time.monotonic() - now
                look_at = now + max(LOOK_SECONDS, looked / LOOK_SHARE)

    def _handle(self, answer: _Answer) -> None:
        if "keeper" in answer:
            self._keeper = int(answer["keeper"])
        elif "note" in answer:
            self._warn(str(answer["note"]))
        elif "started" in answer:
            self._file_limit = int(answer["file_limit"])
        elif "setup" in answer:
            self._setup = str(answer["setup"])

    def _answers(self, wrapper: subprocess.Popen[bytes]) -> list[_Answer]:
        assert wrapper.stdout is not None
        ready, _, _ = select.select([wrapper.stdout], [], [], _POLL_SECONDS)
        if not ready:
            return []
        piece = os.read(wrapper.stdout.fileno(), 65536)
        if not piece:
            self._clean_up_after_wrapper()
            raise self._failure or JobFailedError(
                WRAPPER_VANISHED, "the pilot's process that watches the payload was killed"
            )
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def _stop_if_asked(self, wrapper: subprocess.Popen[bytes], now: float) -> None:
        """Sends SIGTERM, then SIGKILL, when asked to stop or after a limit."""
        if self._stop.is_urgent and self._stop.reason and self._give_up_at is None:
            # The job may run elsewhere by now: kill at once.
            self._kill_at = now
        elif self._kill_at is None and (self._stop.reason or self._failure):
            _send(wrapper, b"T")
            self._kill_at = now + GRACE_SECONDS
        if self._kill_at is not None and now >= self._kill_at and self._give_up_at is None:
            _send(wrapper, b"K")
            self._give_up_at = now + PATIENCE_SECONDS
        if self._give_up_at is not None and now >= self._give_up_at:
            raise self._failure or JobFailedError(
                WRAPPER_VANISHED,
                "processes of the payload survive SIGKILL: they wait for a hanging disk",
            )

    def _look(self, elapsed: float) -> None:
        """Measures the payload, and records the first exceeded limit."""
        limits = self._limits
        if self._keeper is None:
            return
        tree = tree_use(self._keeper)
        self._record(tree.cpu_seconds, tree.rss_bytes)
        if self._failure is not None:
            return
        if limits.wall_seconds is not None and elapsed > limits.wall_seconds:
            self._failure = JobFailedError(
                limits.wall_fault, f"the payload ran longer than {limits.wall_seconds:.0f} s"
            )
        elif 0 < limits.work_dir_bytes < self._use.work_dir_bytes:
            self._failure = self._too_large()
        elif 0 < limits.memory_bytes < tree.rss_bytes:
            # Shared pages were counted for each process: measure exactly, which is slow, only now.
            used = proportional_bytes(self._keeper)
            if used > limits.memory_bytes:
                is_used, may_be_used = size_texts(used, limits.memory_bytes)
                self._failure = JobFailedError(
                    MEMORY_EXCEEDED,
                    f"the payload used {is_used} of memory, its limit is {may_be_used}",
                )

    def _ended(self, answer: _Answer) -> PayloadEnd:
        status = int(answer["ended"])
        self._record(float(answer["cpu_seconds"]), int(answer["max_rss_bytes"]))
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.WEXITSTATUS(status)
        if self._failure is None:
            self._failure = self._over_limit(number, code) or self._out_of_memory(code)
        setup = (self._setup or "") if self._program.behind_setup else None
        if self._failure is None and (code != 0 or setup == ""):
            self._failure = why_failed(self._program, number, code, setup)
        return PayloadEnd(code, self._failure, self._use)

    def _over_limit(self, number: int, code: int) -> JobFailedError | None:
        """The failure of a payload at the limit of its directory or of a file."""
        limit, used = self._limits.work_dir_bytes, self._use.work_dir_bytes
        if number == signal.SIGXFSZ:
            fault = WORK_DIR_TOO_LARGE if self._file_limit == limit else FILE_SIZE_LIMITED
            return JobFailedError(
                fault, f"a file of the payload reached the limit of {size_text(self._file_limit)}"
            )
        # A payload may report a failed write at the file limit as any other error.
        if 0 < limit < used or (limit and code != 0 and used >= limit):
            return self._too_large()
        return None

    def _out_of_memory(self, code: int) -> JobFailedError | None:
        """The failure of a payload that the kernel's OOM killer killed."""
        if code != 128 + signal.SIGKILL:
            return None
        before, after = self._oom_kills, oom_kills()
        if before is None or after is None or after <= before:
            return None
        return JobFailedError(
            MEMORY_EXCEEDED,
            "the kernel's OOM killer killed the payload: the batch job or the node ran out of memory;"
            f" the payload used at least {self._use.max_rss_bytes} bytes",
        )

    def _too_large(self) -> JobFailedError:
        used, allowed = size_texts(self._use.work_dir_bytes, self._limits.work_dir_bytes)
        return JobFailedError(
            WORK_DIR_TOO_LARGE,
            f"the work directory has {used}, its limit is {allowed}",
        )

    def _record(self, cpu_seconds: float, rss_bytes: int) -> None:
        disk = directory_use(self._program.measured)
        if disk.trouble and self._measured:
            # No reason to end a payload; a full disk still fails its writes.
            self._warn(disk.trouble)
            self._measured = False
        self._use = Use(
            max(self._use.cpu_seconds, cpu_seconds),
            max(self._use.max_rss_bytes, rss_bytes),
            disk.size_bytes,
        )
        self._on_use(self._use)

    def _clean_up_after_wrapper(self) -> None:
        """Kills what can be found after keeper and wrapper were both killed."""
        end_processes_in(self._program.measured)


def _send(wrapper: subprocess.Popen[bytes], content: bytes) -> None:
    assert wrapper.stdin is not None
    # The end of its output shows that the wrapper is dead.
    with contextlib.suppress(BrokenPipeError):
        while content:
            content = content[os.write(wrapper.stdin.fileno(), content) :]
