"""Whoever is killed, pilot, wrapper or keeper: nothing of the payload lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.node.namespaces import SHARED_MEMORY
from pandawn_pilot.payload import run as payload_module
from pandawn_pilot.payload.leftovers import end_processes_in
from pandawn_pilot.payload.run import why_not_separate
from tests.unit.pilot.payloads import (
    REPOSITORY,
    make_program,
    processes_of,
    run,
    run_shell,
    wait_until,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at payloads often, so that tests need not wait."""
    monkeypatch.setattr(payload_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(payload_module, "LOOK_SHARE", 1.0)
    monkeypatch.setattr(payload_module, "GRACE_SECONDS", 0.5)


@pytest.mark.parametrize("steps", [1, 2], ids=["keeper", "wrapper"])
def test_a_killed_wrapper_takes_the_payload_with_it(tmp_path: Path, steps: int) -> None:
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
    os.kill(psutil.Process(shell).parents()[steps - 1].pid, signal.SIGKILL)
    thread.join(20)
    assert failures == ["WRAPPER_VANISHED"]
    wait_until(lambda: processes_of(tmp_path) == [])


ENDLESS = "trap '' TERM; (setsid sleep 600 &) ; sleep 600; sleep 600"


def start_pilot(tmp_path: Path) -> subprocess.Popen[bytes]:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tests.unit.pilot.payloads import run_shell
        run_shell(Path(sys.argv[1]), sys.argv[2])
        """
    )
    pilot = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), ENDLESS], cwd=REPOSITORY)
    wait_until(lambda: len(processes_of(tmp_path)) == 3)
    return pilot


def kill(*processes: psutil.Process) -> None:
    """Kills them as at one stroke: while they are stopped, none can heed another's end."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            process.send_signal(number)


def test_a_pilot_killed_leaves_no_process_of_its_payload(tmp_path: Path) -> None:
    pilot = start_pilot(tmp_path)
    pilot.kill()
    pilot.wait()
    wait_until(lambda: processes_of(tmp_path) == [])


def test_a_pilot_killed_together_with_its_wrapper_leaves_no_process_of_its_payload(
    tmp_path: Path,
) -> None:
    pilot = start_pilot(tmp_path)
    kill(psutil.Process(pilot.pid), *psutil.Process(pilot.pid).children())
    pilot.wait()
    wait_until(lambda: processes_of(tmp_path) == [])


def test_what_outlives_pilot_wrapper_and_keeper_is_ended_by_the_next_pilot(tmp_path: Path) -> None:
    pilot = start_pilot(tmp_path)
    (wrapper,) = psutil.Process(pilot.pid).children()
    kill(psutil.Process(pilot.pid), wrapper, *wrapper.children())
    pilot.wait()
    # The payload itself goes with its keeper.
    wait_until(lambda: len(processes_of(tmp_path)) == 2)
    assert (
        sorted(end_processes_in(tmp_path)) == sorted(left := processes_of(tmp_path)) or left == []
    )
    assert processes_of(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make name spaces")
def test_a_payload_in_name_spaces_of_its_own_leaves_nothing_and_sees_nobody(
    tmp_path: Path,
) -> None:
    if why_not_separate() is not None:
        pytest.skip("this machine gives nobody name spaces")
    mark = Path(SHARED_MEMORY, f"{tmp_path.name}-{os.getpid()}")
    # By its size a segment is known among those of other programs, which come and go.
    size = 1_000_003 + os.getpid()
    script = f"""
        echo $$ > pid; ls -d /proc/[0-9]* | wc -l > seen; echo x > {mark}; ipcmk -M {size} > made
        (setsid sleep 600 &)
        """
    program = make_program(tmp_path, "/bin/sh", "-c", script)
    end = run(replace(program, separate=True))
    assert end.failure is None, end.failure
    assert (tmp_path / "work/pid").read_text() == "2\n"
    assert int((tmp_path / "work/seen").read_text()) < 6
    assert "id" in (tmp_path / "work/made").read_text()
    assert not mark.exists()
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()
    assert str(size) not in {line.split()[3] for line in segments}
    assert processes_of(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make name spaces")
def test_a_payload_in_name_spaces_ends_with_its_keeper_whoever_dies(tmp_path: Path) -> None:
    if why_not_separate() is not None:
        pytest.skip("this machine gives nobody name spaces")
    program = replace(make_program(tmp_path, "/bin/sh", "-c", ENDLESS), separate=True)
    failures: list[str] = []

    def live() -> None:
        try:
            run(program)
        except JobFailedError as failure:
            failures.append(failure.fault.reason)

    thread = threading.Thread(target=live)
    thread.start()
    wait_until(lambda: len(processes_of(tmp_path)) == 3)
    shell = min(processes_of(tmp_path))
    kill(*psutil.Process(shell).parents()[:2])
    thread.join(20)
    assert failures == ["WRAPPER_VANISHED"]
    wait_until(lambda: processes_of(tmp_path) == [])
