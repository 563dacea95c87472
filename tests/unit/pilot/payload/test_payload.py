"""Payloads: how their ends are told, and their limits."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from pandawn_pilot.payload import run as payload_module
from pandawn_pilot.payload.run import Use, run_payload
from pandawn_pilot.stop import Stop, StopReason
from tests.unit.pilot.payloads import (
    make_limits,
    make_program,
    processes_of,
    reason_of,
    run_python,
    run_shell,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at payloads often, so that tests need not wait."""
    monkeypatch.setattr(payload_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(payload_module, "LOOK_SHARE", 1.0)
    monkeypatch.setattr(payload_module, "GRACE_SECONDS", 0.5)


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


def test_a_payload_may_nest_directories_deeper_than_a_path_can_be_long(tmp_path: Path) -> None:
    end = run_python(
        tmp_path,
        """
        import os, time
        for _ in range(60):
            os.mkdir("d" * 100); os.chdir("d" * 100)
        open("far-down", "wb").write(bytes(1_000_000))
        time.sleep(0.5)
        """,
    )
    assert end.failure is None
    assert end.use.work_dir_bytes >= 1_000_000


def test_a_sparse_file_counts_with_what_it_holds(tmp_path: Path) -> None:
    end = run_shell(
        tmp_path, "truncate -s 900M f; echo x >> f", make_limits(work_dir_bytes=1_000_000_000)
    )
    assert end.failure is None
    assert 0 < end.use.work_dir_bytes < 1_000_000


@pytest.mark.parametrize(
    ("options", "script", "why"),
    [
        ("size=4m", "head -c 9000000 /dev/zero > f", "0 B free"),
        ("size=64m,nr_inodes=100", "i=0; while : > f$i; do i=$((i+1)); done", "inodes are used"),
    ],
)
def test_a_full_disk_is_told_as_such(tmp_path: Path, options: str, script: str, why: str) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", place], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted")
    try:
        end = run_shell(place, script)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    assert reason_of(end) == "NO_LOCAL_SPACE"
    assert end.failure is not None
    assert why in end.failure.text


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
