"""Runs one payload under its wrapper and holds it to its limits."""

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
from pandawn_pilot.sizes import said, said_against
from pandawn_pilot.stop import Stop

# How often memory, disk and time are looked at.
LOOK_SECONDS = 1.0
# The share of time that looking at a large work directory may take.
LOOK_SHARE = 0.05
# From SIGTERM to SIGKILL.
GRACE_SECONDS = 10.0
# From SIGKILL to giving up on a process that waits for a dead disk.
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.2
# Where this package lies, and what the wrapper is started with; its Python looks there last.
_CODE = Path(__file__).parents[2]
_PYTHON = (sys.executable, "-I", "-S", "-X", "utf8", "-c")
_IMPORT = "import sys; sys.path.append(sys.argv[1]); from pandawn_pilot.payload.wrapper import "
_WRAPPER = f"{_IMPORT}main; sys.exit(main())"
_TRIAL = f"{_IMPORT}try_namespaces; try_namespaces()"

# A line of what the wrapper says.
_Answer = dict[str, "float | str"]


@dataclass(frozen=True)
class Use:
    """What a payload has used; memory is the largest seen, the others are sums."""

    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    work_dir_bytes: int = 0


@dataclass(frozen=True)
class PayloadLimits:
    """What a payload may use; 0 and None: no limit. `wall_fault` is the reason when time is up."""

    wall_seconds: float | None
    wall_fault: Fault
    work_dir_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class PayloadEnd:
    """How a payload ended: its status as a shell would give it, and the failure, if it is one."""

    exit_code: int
    failure: JobFailedError | None
    use: Use


def why_not_separate() -> str | None:
    """Why payloads get no name spaces of their own here; None: they can have them."""
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
    """Runs the program to its end, or ends it: when a limit is passed or `stop` is set.

    `warn` is told what could not be done for the payload without ending it. Returns in any case but
    two: JobFailedError, WRAPPER_VANISHED when the end could not be learned, PAYLOAD_NOT_STARTED when
    the node has no processes left.
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
        # All of the payload is below it, and it is none of the payload.
        self._keeper: int | None = None
        # The largest file that the kernel lets it write; 0: as large as it likes.
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
                # Of a signal to the pilot's group the payload's wrapper should hear nothing.
                start_new_session=True,
                cwd="/",
                # Of ours, what it needs to run, and nothing that a payload could read there.
                env=without_secrets(os.environ),
            )
        except OSError as error:
            raise JobFailedError(
                PAYLOAD_NOT_STARTED, f"the node could not start the payload's wrapper: {error}"
            ) from error
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
                self._heed(answer)
            now = time.monotonic()
            self._obey(wrapper, now)
            if now >= look_at:
                self._look(now - begin)
                looked = time.monotonic() - now
                look_at = now + max(LOOK_SECONDS, looked / LOOK_SHARE)

    def _heed(self, answer: _Answer) -> None:
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
                WRAPPER_VANISHED, "the process that watches the payload was killed by somebody"
            )
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def _obey(self, wrapper: subprocess.Popen[bytes], now: float) -> None:
        """Carries out a wish to stop, politely first."""
        if self._stop.is_urgent and self._stop.reason and self._give_up_at is None:
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

    def _look(self, elapsed: float) -> None:
        """Measures, and notes the first limit that was passed."""
        limits = self._limits
        if self._keeper is None:
            return
        tree = tree_use(self._keeper)
        self._note(tree.cpu_seconds, tree.rss_bytes)
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
            used = proportional_bytes(self._keeper)
            if used > limits.memory_bytes:
                is_used, may_be_used = said_against(used, limits.memory_bytes)
                self._failure = JobFailedError(
                    MEMORY_EXCEEDED,
                    f"the payload used {is_used} of memory, it may use {may_be_used}",
                )

    def _ended(self, answer: _Answer) -> PayloadEnd:
        status = int(answer["ended"])
        self._note(float(answer["cpu_seconds"]), int(answer["max_rss_bytes"]))
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.WEXITSTATUS(status)
        if self._failure is None:
            self._failure = self._over_limit(number, code) or self._out_of_memory(code)
        setup = (self._setup or "") if self._program.behind_setup else None
        if self._failure is None and (code != 0 or setup == ""):
            self._failure = why_failed(self._program, number, code, setup)
        return PayloadEnd(code, self._failure, self._use)

    def _over_limit(self, number: int, code: int) -> JobFailedError | None:
        """The failure of a payload that met a limit of its directory or of a file."""
        limit, used = self._limits.work_dir_bytes, self._use.work_dir_bytes
        if number == signal.SIGXFSZ:
            fault = WORK_DIR_TOO_LARGE if self._file_limit == limit else FILE_SIZE_LIMITED
            return JobFailedError(
                fault, f"a file of the payload met its limit of {said(self._file_limit)}"
            )
        # What a write beyond the limit of a single file ends in may be an error like others.
        if 0 < limit < used or (limit and code != 0 and used >= limit):
            return self._too_large()
        return None

    def _out_of_memory(self, code: int) -> JobFailedError | None:
        """The failure of a payload that the kernel killed for want of memory."""
        if code != 128 + signal.SIGKILL:
            return None
        before, after = self._oom_kills, oom_kills()
        if before is None or after is None or after <= before:
            return None
        return JobFailedError(
            MEMORY_EXCEEDED,
            "the kernel killed the payload for want of memory: the batch job or the node had no more;"
            f" {self._use.max_rss_bytes} bytes were seen in use",
        )

    def _too_large(self) -> JobFailedError:
        used, allowed = said_against(self._use.work_dir_bytes, self._limits.work_dir_bytes)
        return JobFailedError(
            WORK_DIR_TOO_LARGE,
            f"the work directory has {used}, it may have {allowed}",
        )

    def _note(self, cpu_seconds: float, rss_bytes: int) -> None:
        disk = directory_use(self._program.measured)
        if disk.trouble and self._measured:
            # No reason to end a payload; the disk's own end is noticed by what it writes.
            self._warn(disk.trouble)
            self._measured = False
        self._use = Use(
            max(self._use.cpu_seconds, cpu_seconds),
            max(self._use.max_rss_bytes, rss_bytes),
            disk.size_bytes,
        )
        self._on_use(self._use)

    def _clean_up_after_wrapper(self) -> None:
        """Kills what can be found when keeper and wrapper were killed both."""
        end_processes_in(self._program.measured)


def _send(wrapper: subprocess.Popen[bytes], content: bytes) -> None:
    assert wrapper.stdin is not None
    # A dead wrapper is noticed by the end of its output.
    with contextlib.suppress(BrokenPipeError):
        while content:
            content = content[os.write(wrapper.stdin.fileno(), content) :]
