"""What does not begin: whose fault it is, and the limits that a batch system has set."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pandawn.queueconfig.v1.parameters_pb2 import QueueParameters
from pandawn_pilot.job.work_dir import WorkDir
from pandawn_pilot.payload import run as payload_module
from pandawn_pilot.payload.command import find_program
from pandawn_pilot.payload.queue_rules import behind_setup
from pandawn_pilot.payload.run import run_payload
from pandawn_pilot.stop import Stop
from tests.unit.pilot.payloads import (
    REPOSITORY,
    make_limits,
    make_program,
    make_script,
    reason_of,
    run,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at payloads often, so that tests need not wait."""
    monkeypatch.setattr(payload_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(payload_module, "LOOK_SHARE", 1.0)
    monkeypatch.setattr(payload_module, "GRACE_SECONDS", 0.5)


@pytest.mark.parametrize(
    ("content", "mode", "code", "reason"),
    [
        ("#!/no/such/interpreter\n", 0o755, 127, "PROGRAM_NOT_FOUND"),
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


# The beginning of a program for a processor that no node has (Hitachi's SH).
FOREIGN = b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x2a\x00" + bytes(100)


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"#!./no-such-interpreter\n", 0o755, "PAYLOAD_NOT_FOUND"),
        (b"#!/no/such/interpreter -x\n", 0o755, "PROGRAM_NOT_FOUND"),
        (b"", 0o644, "PAYLOAD_NOT_EXECUTABLE"),
        (b"\0\0\0\0", 0o755, "PAYLOAD_NOT_EXECUTABLE"),
        (FOREIGN, 0o755, "PROGRAM_NOT_EXECUTABLE"),
    ],
)
def test_what_another_node_may_have_is_told_apart_from_what_is_in_the_users_code(
    tmp_path: Path, content: bytes, mode: int, reason: str
) -> None:
    assert reason_of(run(make_script(tmp_path, content, mode))) == reason


def test_a_command_that_no_program_can_be_given_says_what_to_do(tmp_path: Path) -> None:
    end = run(make_program(tmp_path, "/bin/true", "x" * 200_000))
    assert (end.exit_code, reason_of(end)) == (126, "ARGUMENTS_TOO_LONG")
    assert end.failure is not None
    assert "PANDAWN_INPUTS_FILE" in end.failure.text


def test_a_program_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    program = make_script(tmp_path, b"#!/bin/sh\n")
    writer = (tmp_path / "work/script").open("ab")
    threading.Timer(0.5, writer.close).start()
    assert run(program).failure is None


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system from which nothing can be executed."""
    place = tmp_path / "noexec"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "noexec,size=1m", "none", place],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_work_directory_that_nothing_can_be_executed_from_is_the_nodes(noexec: Path) -> None:
    program = make_script(noexec, b"#!/bin/sh\n")
    # Asked whether it may be executed the kernel says no, as of a file that nobody made a program.
    assert find_program("./script", "/bin", program.work_dir) == program.arguments[0]
    end = run(program)
    assert reason_of(end) == "PAYLOAD_NOT_STARTED"
    assert end.failure is not None
    assert "noexec" in end.failure.text


def test_no_pilot_works_where_nothing_can_be_executed(noexec: Path) -> None:
    with (
        pytest.raises(PermissionError, match=r"mounted noexec.*--work-dir"),
        WorkDir(noexec / "w").occupied(),
    ):
        pass


def run_under_limits(tmp_path: Path, limits: str, script: str, **wanted: int) -> list[str]:
    """Runs a payload under a wrapper that a batch system has limited; returns reason and warnings."""
    code = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from tests.unit.pilot.payloads import make_limits, make_program
        from pandawn_pilot.payload.run import run_payload
        from pandawn_pilot.stop import Stop
        program = make_program(Path(sys.argv[1]), "/bin/sh", "-c", sys.argv[2])
        warnings = []
        end = run_payload(program, make_limits(**{wanted!r}), lambda use: None, Stop(), warnings.append)
        print(end.failure.fault.reason if end.failure else "FINISHED", *warnings, sep="\\n")
        """
    )
    # Root may lift a limit, unless it has given up the right to.
    setpriv = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
    done = subprocess.run(
        ["prlimit", limits, *setpriv, sys.executable, "-c", code, str(tmp_path), script],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_a_batch_systems_limit_on_files_is_kept_where_it_is_lower_than_the_queues(
    tmp_path: Path,
) -> None:
    reason, warning = run_under_limits(
        tmp_path, "--fsize=2000000:2000000", "ulimit -f", work_dir_bytes=32_000_000_000
    )
    assert reason == "FINISHED"
    assert "2000000, set by the batch system" in warning


def test_a_file_that_meets_the_batch_systems_limit_is_no_fault_of_the_payload(
    tmp_path: Path,
) -> None:
    reason, _ = run_under_limits(
        tmp_path,
        "--fsize=2000000:2000000",
        "exec head -c 3000000 /dev/zero > f",
        work_dir_bytes=32_000_000_000,
    )
    assert reason == "FILE_SIZE_LIMITED"


def test_an_environment_that_no_program_can_have_is_an_error_not_a_riddle(tmp_path: Path) -> None:
    program = make_program(tmp_path, "/bin/true")
    program.environment["BAD"] = "zero\0byte"
    end = run_payload(program, make_limits(), lambda _use: None, Stop())
    assert (end.exit_code, reason_of(end)) == (126, "PAYLOAD_NOT_EXECUTABLE")


@pytest.mark.parametrize(
    ("setup", "command", "reason", "code"),
    [
        ("export A=1", ["sh", "-c", "exit 3"], "PAYLOAD_FAILED", 3),
        ("exit 4", ["true"], "SETUP_FAILED", 4),
        (". /no/such/site/setup.sh", ["true"], "SETUP_FAILED", 2),
        ("exit 0", ["true"], "SETUP_FAILED", 0),
        ("export A=1", ["no-such-program"], "PROGRAM_NOT_FOUND", 127),
        ("export A=1", ["sh", "-c", "exit 127"], "PAYLOAD_FAILED", 127),
        ("export A=1", ["sh", "-c", "echo missing >&9; exit 5"], "PAYLOAD_FAILED", None),
    ],
)
def test_a_set_up_that_fails_is_not_the_payloads_fault(
    tmp_path: Path, setup: str, command: list[str], reason: str, code: int | None
) -> None:
    program = make_program(tmp_path, *behind_setup(QueueParameters(setup_command=setup), command))
    end = run(replace(program, behind_setup=True))
    assert reason_of(end) == reason
    assert code is None or end.exit_code == code


def test_a_set_up_hands_over_to_the_payload(tmp_path: Path) -> None:
    words = ["sh", "-c", 'echo "$FROM" "$1"; ls /proc/self/fd', "sh", "a b"]
    program = make_program(
        tmp_path, *behind_setup(QueueParameters(setup_command="export FROM=site"), words)
    )
    assert run(replace(program, behind_setup=True)).failure is None
    first, *descriptors = (tmp_path / "payload.stdout").read_text().splitlines()
    assert first == "site a b"
    assert "9" not in descriptors
