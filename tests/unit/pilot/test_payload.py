"""Payloads: how their ends are told, their limits, and that nothing of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pandawn_pilot import payload as payload_module
from pandawn_pilot.errors import WALL_TIME_EXCEEDED, JobFailedError
from pandawn_pilot.payload import PayloadEnd, PayloadLimits, Program, Use, run_payload
from pandawn_pilot.stop import Stop, StopReason

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at payloads often, so that tests need not wait."""
    monkeypatch.setattr(payload_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(payload_module, "LOOK_SHARE", 1.0)
    monkeypatch.setattr(payload_module, "GRACE_SECONDS", 0.5)


def make_limits(
    *, wall_seconds: float | None = 60, work_dir_bytes: int = 0, memory_bytes: int = 0
) -> PayloadLimits:
    return PayloadLimits(wall_seconds, WALL_TIME_EXCEEDED, work_dir_bytes, memory_bytes)


def make_program(tmp_path: Path, *arguments: str) -> Program:
    work_dir = tmp_path / "work"
    work_dir.mkdir(exist_ok=True)
    return Program(
        arguments=list(arguments),
        environment={"PATH": os.environ["PATH"], "MARK": str(tmp_path)},
        work_dir=work_dir,
        stdout=tmp_path / "payload.stdout",
        stderr=tmp_path / "payload.stderr",
        measured=tmp_path,
    )


def run_shell(
    tmp_path: Path, script: str, limits: PayloadLimits | None = None, stop: Stop | None = None
) -> PayloadEnd:
    program = make_program(tmp_path, "/bin/sh", "-c", script)
    return run_payload(program, limits or make_limits(), lambda _use: None, stop or Stop())


def run_python(tmp_path: Path, script: str, limits: PayloadLimits | None = None) -> PayloadEnd:
    program = make_program(tmp_path, sys.executable, "-c", textwrap.dedent(script))
    return run_payload(program, limits or make_limits(), lambda _use: None, Stop())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in 20 s"
        time.sleep(0.02)


def reason_of(end: PayloadEnd) -> str:
    assert end.failure is not None
    return end.failure.fault.reason


def processes_of(tmp_path: Path) -> list[int]:
    """Processes whose environment has the mark of this test."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == str(tmp_path):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_a_payload_that_succeeds_has_no_failure_and_its_output_is_kept(tmp_path: Path) -> None:
    end = run_shell(tmp_path, "pwd; echo oops >&2")
    assert (end.exit_code, end.failure) == (0, None)
    assert (tmp_path / "payload.stdout").read_text() == f"{tmp_path}/work\n"
    assert (tmp_path / "payload.stderr").read_text() == "oops\n"


def test_the_status_and_the_last_words_are_told(tmp_path: Path) -> None:
    end = run_shell(tmp_path, "echo first >&2; echo 'no such tree: muons' >&2; echo >&2; exit 7")
    assert end.exit_code == 7
    assert reason_of(end) == "PAYLOAD_FAILED"
    assert end.failure is not None
    assert end.failure.text == (
        "the payload ended with status 7; the last line of its stderr: no such tree: muons"
    )


def test_a_payload_killed_by_a_signal_ends_as_in_a_shell(tmp_path: Path) -> None:
    end = run_shell(tmp_path, "kill -9 $$")
    assert end.exit_code == 137
    assert reason_of(end) == "PAYLOAD_KILLED"


def test_a_killed_child_of_the_payload_is_told_as_the_shell_tells_it(tmp_path: Path) -> None:
    end = run_shell(tmp_path, "sh -c 'kill -9 $$'; exit $?")
    assert end.exit_code == 137


@pytest.mark.parametrize(
    ("content", "mode", "code", "reason"),
    [
        ("#!/no/such/interpreter\n", 0o755, 127, "PAYLOAD_NOT_FOUND"),
        ("no shebang and no program", 0o755, 126, "PAYLOAD_NOT_EXECUTABLE"),
    ],
)
def test_what_cannot_be_executed_ends_as_in_a_shell(
    tmp_path: Path, content: str, mode: int, code: int, reason: str
) -> None:
    program = make_program(tmp_path, str(tmp_path / "work/script"))
    (tmp_path / "work/script").write_text(content)
    (tmp_path / "work/script").chmod(mode)
    end = run_payload(program, make_limits(), lambda _use: None, Stop())
    assert (end.exit_code, reason_of(end)) == (code, reason)


def test_an_environment_that_no_program_can_have_is_an_error_not_a_riddle(tmp_path: Path) -> None:
    program = make_program(tmp_path, "/bin/true")
    program.environment["BAD"] = "zero\0byte"
    end = run_payload(program, make_limits(), lambda _use: None, Stop())
    assert (end.exit_code, reason_of(end)) == (126, "PAYLOAD_NOT_EXECUTABLE")


def test_a_payload_that_hangs_is_killed_when_its_time_is_up_with_all_its_children(
    tmp_path: Path,
) -> None:
    end = run_shell(
        tmp_path,
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 600') & sleep 600; sleep 600",
        make_limits(wall_seconds=0.5),
    )
    assert reason_of(end) == "WALL_TIME_EXCEEDED"
    assert end.exit_code == 137
    assert processes_of(tmp_path) == []


def test_a_payload_that_heeds_sigterm_can_end_by_itself(tmp_path: Path) -> None:
    end = run_shell(
        tmp_path,
        "trap 'echo saved; exit 0' TERM; while :; do sleep 0.1; done",
        make_limits(wall_seconds=0.5),
    )
    assert reason_of(end) == "WALL_TIME_EXCEEDED"
    assert end.exit_code == 0
    assert "saved" in (tmp_path / "payload.stdout").read_text()


def test_a_payload_that_prints_without_end_is_stopped(tmp_path: Path) -> None:
    end = run_shell(tmp_path, "yes", make_limits(work_dir_bytes=20_000_000))
    assert reason_of(end) == "WORK_DIR_TOO_LARGE"
    assert (tmp_path / "payload.stdout").stat().st_size <= 20_000_000


def test_a_payload_that_writes_many_files_without_end_is_stopped(tmp_path: Path) -> None:
    end = run_shell(
        tmp_path,
        "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > f$i; done",
        make_limits(work_dir_bytes=20_000_000),
    )
    assert reason_of(end) == "WORK_DIR_TOO_LARGE"


def test_a_payload_that_turns_the_file_limit_into_an_error_is_told_its_cause(
    tmp_path: Path,
) -> None:
    end = run_python(
        tmp_path,
        "open('f','wb').write(bytes(3_000_000))",
        make_limits(work_dir_bytes=2_000_000),
    )
    assert end.exit_code == 1
    assert reason_of(end) == "WORK_DIR_TOO_LARGE"


def test_a_payload_above_its_memory_is_stopped(tmp_path: Path) -> None:
    end = run_python(
        tmp_path,
        """
        import time
        block = bytearray(200_000_000)
        time.sleep(60)
        """,
        make_limits(memory_bytes=100_000_000),
    )
    assert reason_of(end) == "MEMORY_EXCEEDED"


def test_memory_shared_by_processes_of_a_payload_is_counted_once(tmp_path: Path) -> None:
    end = run_python(
        tmp_path,
        """
        import os, time
        block = bytearray(80_000_000)
        children = [os.fork() for _ in range(3)]
        time.sleep(1)
        """,
        make_limits(memory_bytes=200_000_000),
    )
    assert end.failure is None
    assert end.use.max_rss_bytes > 200_000_000


def test_no_core_is_dumped(tmp_path: Path) -> None:
    end = run_shell(tmp_path, "ulimit -c; kill -SEGV $$")
    assert end.exit_code == 139
    assert (tmp_path / "payload.stdout").read_text() == "0\n"


def test_processor_time_of_children_left_behind_is_counted(tmp_path: Path) -> None:
    end = run_python(
        tmp_path,
        """
        import os, time
        def burn():
            while time.process_time() < 0.4: pass
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid(); burn(); open("done", "w").close(); time.sleep(60)
            os._exit(0)
        while not os.path.exists("done"): time.sleep(0.05)
        """,
    )
    assert end.exit_code == 0
    assert end.use.cpu_seconds >= 0.4
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("reason", list(StopReason))
def test_a_payload_ends_when_it_is_told_to(tmp_path: Path, reason: StopReason) -> None:
    stop = Stop()
    threading.Timer(0.3, stop.request, [reason]).start()
    end = run_shell(tmp_path, "trap '' TERM; while :; do sleep 0.1; done", stop=stop)
    assert end.exit_code == 137
    assert processes_of(tmp_path) == []


def test_use_is_told_while_the_payload_runs(tmp_path: Path) -> None:
    seen: list[Use] = []
    program = make_program(tmp_path, "/bin/sh", "-c", "head -c 5000 /dev/zero > f; sleep 1")
    run_payload(program, make_limits(), seen.append, Stop())
    assert any(use.max_rss_bytes > 0 and use.work_dir_bytes >= 5000 for use in seen[:-1])


def test_a_killed_wrapper_takes_the_payload_with_it(tmp_path: Path) -> None:
    failures: list[str] = []

    def run() -> None:
        try:
            run_shell(tmp_path, "sleep 600 & sleep 600")
        except JobFailedError as failure:
            failures.append(failure.fault.reason)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(processes_of(tmp_path)) == 3)
    shell = min(processes_of(tmp_path))
    os.kill(psutil.Process(shell).ppid(), signal.SIGKILL)
    thread.join(20)
    assert failures == ["WRAPPER_VANISHED"]
    wait_until(lambda: processes_of(tmp_path) == [])


def test_a_pilot_killed_leaves_no_process_of_its_payload(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tests.unit.pilot.test_payload import run_shell
        run_shell(Path(sys.argv[1]), "trap '' TERM; (setsid sleep 600 &) ; sleep 600; sleep 600")
        """
    )
    pilot = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY)
    wait_until(lambda: len(processes_of(tmp_path)) == 3)
    pilot.kill()
    pilot.wait()
    wait_until(lambda: processes_of(tmp_path) == [])
