"""The benchmark itself, small: it runs to its end, and its own checks of what the server did hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.memcached import find_memcached
from tests.fixtures.postgres import find_programs
from tests.fixtures.processes import skip_or_fail

PROGRAM = Path(sys.executable).with_name("pandawn")
SMALL = ("--depths", "500", "--nodes", "150", "--rounds", "1", "--seconds", "0.3", "--reserve")
TIMEOUT_S = 240


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    if find_programs() is None:
        skip_or_fail("postgresql")
    if find_memcached() is None:
        skip_or_fail("memcached")
    return subprocess.run(
        [PROGRAM, "bench", "--quick", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("engine", ["postgres", "sqlite"])
def test_a_small_benchmark_measures_all_that_is_documented(engine: str) -> None:
    done = run_bench("--engine", engine, "--json", *SMALL, "3500")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["acquire"]["500"]["rps"] > 0
    assert found["acquire"]["500"]["ratio"] > 0
    assert found["empty_rps"] > 0
    assert found["renew_leases_per_s"] > 0
    assert found["report_jobs_per_s"] > 0
    assert found["catalog_add_files_per_s"] > 0
    assert found["catalog_check_files_per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--engine", "oracle"), "BAD_ENGINE"), (("--depths", "many"), "BAD_DEPTHS")],
)
def test_wrong_options_are_refused_before_anything_starts(
    arguments: tuple[str, ...], said: str
) -> None:
    done = run_bench(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
