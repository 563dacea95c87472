"""All programs: they tell their version, and Ctrl-C while they start ends them without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = ("pandawn", "pandawn-server", "pandawn-pilot", "pandawn-pcache-hook", "pandawn-pcache")
# The first module that each reads of those that take long.
FIRST = {"pandawn": "typer", "pandawn-server": "typer", "pandawn-pcache": "shlex"}


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_tells_its_version(program: str) -> None:
    done = run(program, "--version", PANDAWN_PCACHE_CMD="/bin/true")
    assert done.returncode == 0, done.stderr
    # The wrapper's output is that of the program behind it.
    told = done.stderr if program == "pandawn-pcache" else done.stdout
    assert program in told
    assert "0.1.0" in told


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_a_program_starts_ends_it_without_a_traceback(
    program: str, tmp_path: Path
) -> None:
    stub = tmp_path / f"{FIRST.get(program, 'grpc')}.py"
    stub.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = run(program, "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
