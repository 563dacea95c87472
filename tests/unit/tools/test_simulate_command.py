"""`pandawn simulate` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pandawn_tools.simulate.run import POLICIES
from tests.fixtures.command import RunCli

SMALL = ("simulate", "--jobs", "300", "--nodes", "5", "--slots", "4", "--load", "1.2")


def test_it_prints_a_table_of_all_policies_and_the_bound(run_cli: RunCli) -> None:
    said = run_cli(*SMALL, COLUMNS="140")
    assert said.status == 0
    for name in (*POLICIES, "one infinite cache"):
        assert name in said.out
    assert "300 jobs" in said.out


def test_json_is_one_object(run_cli: RunCli) -> None:
    said = run_cli(*SMALL, "--json", "--policy", "fifo,pandawn", "--policy", "bytes-10")
    found = json.loads(said.out)
    assert found["jobs"] == 300
    assert list(found["policies"]) == ["fifo", "pandawn", "bytes-10"]


def test_it_reads_a_trace(run_cli: RunCli, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    job = {"t": 0, "job": "1", "task": "1", "priority": 0, "runtime_s": 60, "inputs": [["f", 6e7]]}
    trace.write_text("".join(json.dumps(job | {"job": str(n)}) + "\n" for n in range(4)))
    said = run_cli("simulate", "--trace", str(trace), "--json", "--nodes", "1", "--slots", "1")
    found = json.loads(said.out)
    assert found["bound_byte_hit"] == 0.75
    assert {figures["byte_hit"] for figures in found["policies"].values()} == {0.75}
    assert found["policies"]["fifo"]["makespan_s"] == 241.0


def test_faults_and_failures_are_options(run_cli: RunCli) -> None:
    said = run_cli(
        *SMALL,
        *("--stale", "60", "--lost", "0.1", "--memcached-down", "10min-1h,2h-3h"),
        *("--node-mtbf", "1d", "--locality-wait", "5min", "--policy", "pandawn", "--json"),
    )
    assert 0 < json.loads(said.out)["policies"]["pandawn"]["byte_hit"] < 1


def test_it_draws(run_cli: RunCli, tmp_path: Path) -> None:
    said = run_cli(*SMALL, "--plot", "hits.png", "--policy", "fifo,pandawn")
    assert said.status == 0
    assert (tmp_path / "hits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policy", "best"), "'best' is not one of fifo"),
        (("--model", "cms"), "'cms' is not one of ndgf"),
        (("--hours", "3"), "--load and --hours"),
        (("--memcached-down", "3h"), "is not like 2h-3h"),
        (("--memcached-down", "3h-2h"), "is not like 2h-3h"),
        (("--stale", "soon"), "--stale"),
        (("--plot", "hits.gif"), ".png"),
        (("--plot", "nowhere/hits.png"), "no directory"),
        (("--trace", "absent.jsonl"), "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_run(
    run_cli: RunCli, arguments: tuple[str, ...], said: str
) -> None:
    answer = run_cli(*SMALL, *arguments)
    assert answer.status == 2
    assert said in answer.err
    assert not answer.out


def test_its_help_fits_80_columns(run_cli: RunCli) -> None:
    said = run_cli("simulate", "--help", COLUMNS="80")
    assert max(map(len, said.out.splitlines())) <= 80
