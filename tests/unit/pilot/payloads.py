"""Payloads that tests run, and what they look at afterwards."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pandawn_pilot.errors import WALL_TIME_EXCEEDED
from pandawn_pilot.payload.program import Program
from pandawn_pilot.payload.run import PayloadEnd, PayloadLimits, run_payload
from pandawn_pilot.stop import Stop

REPOSITORY = Path(__file__).parents[3]


def make_limits(
    *, wall_seconds: float | None = 60, work_dir_bytes: int = 0, memory_bytes: int = 0
) -> PayloadLimits:
    return PayloadLimits(wall_seconds, WALL_TIME_EXCEEDED, work_dir_bytes, memory_bytes)


def make_program(tmp_path: Path, *arguments: str) -> Program:
    work_dir = tmp_path / "work"
    work_dir.mkdir(exist_ok=True)
    return Program(
        arguments=list(arguments),
        environment={
            "PATH": os.environ["PATH"],
            "MARK": str(tmp_path),
            "PANDAWN_WORK_DIR": str(work_dir),
        },
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


def make_script(tmp_path: Path, content: bytes, mode: int = 0o755) -> Program:
    program = make_program(tmp_path, str(tmp_path / "work/script"))
    (tmp_path / "work/script").write_bytes(content)
    (tmp_path / "work/script").chmod(mode)
    return program


def run(program: Program, limits: PayloadLimits | None = None) -> PayloadEnd:
    return run_payload(program, limits or make_limits(), lambda _use: None, Stop())
