"""The node's part on Python 3.9, the system Python of EL9: a real pilot of the wheel does a real job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pandawn.broker.v1.job_pb2 import FILE_ROLE_OUTPUT
from tests.fixtures.pilots import StartPilot
from tests.fixtures.tier3 import Tier3
from tests.packaging.conftest import ROOT, Environment, run
from tests.packaging.test_wheel import IMPORT_EVERYTHING

COUNT_BYTES = '#!/bin/sh\ncat "$@" | wc -c > bytes.txt\n'


@pytest.fixture(scope="session")
def python39(tmp_path_factory: pytest.TempPathFactory, pilot_wheel: Path) -> Environment:
    """An environment of Python 3.9 with the wheel in it."""
    found = subprocess.run(
        ["tools/dev/python39.sh"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        why = f"no Python 3.9 can be had: {found.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    directory = tmp_path_factory.mktemp("python39") / "venv"
    python = found.stdout.strip()
    run("tools/dev/bootstrap.sh", "uv", "venv", "--quiet", "--python", python, directory)
    environment = Environment(directory / "bin" / "python")
    environment.install(pilot_wheel)
    return environment


def test_it_imports_every_module_without_a_warning(python39: Environment) -> None:
    said = python39.run_code(f"import sys; print(sys.version_info[:2]){IMPORT_EVERYTHING}")
    assert said.startswith("(3, 9)")
    assert "pandawn_pilot.payload.wrapper" in said.split()


def test_a_pilot_on_it_takes_jobs_from_their_inputs_to_their_outputs(
    python39: Environment, tier3: Tier3, start_pilot: StartPilot
) -> None:
    inputs = tier3.make_inputs(2, size=300)
    sandbox = tier3.upload({"count.in": COUNT_BYTES})
    pilot = start_pilot(
        tier3, command=(python39.python.with_name("pandawn-pilot"),), max_jobs=2, idle_exit=5
    )
    for is_cached in (False, True):
        task = tier3.submit(
            "",
            inputs,
            command=["./count.sh", "%IN"],
            outputs=["bytes.txt"],
            build=True,
            build_command=["mv", "count.in", "count.sh"],
            sandbox_id=sandbox,
        )
        found = [
            (job.bytes_from_cache >= 300, output.read_text().strip())
            for job in tier3.finish(task)
            for output in tier3.stored(job.job_id, FILE_ROLE_OUTPUT)
            if output.name.endswith("bytes.txt")
        ]
        assert found == [(is_cached, "300")] * 2
    assert pilot.wait() == 0
