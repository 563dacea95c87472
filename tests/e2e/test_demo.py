"""`pandawn demo` as a newcomer runs it: the issue's own measure of whether the whole works."""

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.memcached import MemcachedServer
from tests.fixtures.pilots import wait_until

# Half a minute of work for two cores; a machine that runs other tests needs more.
pytestmark = pytest.mark.timeout(900)
_DEMO_TIMEOUT_S = 800.0

NODES = {"wn01", "wn02", "wn03"}
# 12 files, one a job, and a build job.
JOBS = 13


@pytest.fixture
def pandawn(tmp_path: Path, run_cli: RunCli) -> Pandawn:
    """A command whose default server is nobody: the demo brings its own."""
    return Pandawn("127.0.0.1:1", tmp_path, run_cli)


def _finish(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Waits for the end of a demo; ends it, with all its processes, if it takes too long."""
    try:
        out, err = demo.communicate(timeout=_DEMO_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=100)
    assert demo.returncode == 0, out + err
    return out, err


def test_the_demo_gives_its_result_on_postgresql_and_memcached(
    pandawn: Pandawn, postgres_url: str, memcached: MemcachedServer, tmp_path: Path
) -> None:
    place = tmp_path / "demo"
    engines = ("--database", postgres_url, "--catalog", memcached.url)
    out, _ = _finish(pandawn.start("demo", "--json", "--dir", str(place), *engines))
    result = json.loads(out)
    assert set(result) == {"tasks", "plot", "wall_s"}
    alice, bob = result["tasks"]
    assert (alice["user"], bob["user"]) == ("alice", "bob")
    for task in (alice, bob):
        assert (task["jobs_finished"], task["jobs_failed"]) == (JOBS, 0)
        assert [job["kind"] for job in task["jobs"]] == ["build", *["run"] * (JOBS - 1)]
        assert {job["node"] for job in task["jobs"]} <= NODES
        for name in ("input_bytes", "bytes_from_cache"):
            assert sum(job[name] for job in task["jobs"]) == task[name]
        output_dir = Path(task["output_dir"])
        year, user, _ = output_dir.relative_to(place / "storage").parts
        assert year.isdecimal()
        assert user == task["user"]
        assert len(list(output_dir.glob("*.zpeak.npz"))) == JOBS - 1
        assert len(list(output_dir.glob("*.log.tar.gz"))) == JOBS
    assert bob["bytes_from_cache"] > bob["input_bytes"] / 2
    assert Path(result["plot"]).read_bytes().startswith(b"\x89PNG")


def test_the_demo_survives_kills_of_the_server_and_can_be_looked_at_afterwards(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    place = tmp_path / "demo"
    demo = pandawn.start("demo", "--chaos", "kill-server", "--keep", "--dir", str(place))
    out, err = _finish(demo)
    (kill,) = [line for line in out.splitlines() if line.startswith("end it")]
    pids = [int(word) for word in kill.partition("kill")[2].split()]
    try:
        assert f"2 kills of the server; all {2 * JOBS} jobs finished, none ran twice" in err
        for word in ("wn01", "uproot-Zmumu", "from their caches", "pandawn why", str(place)):
            assert word in out
        (address,) = [
            line.partition("PANDAWN_SERVER=")[2]
            for line in out.splitlines()
            if "PANDAWN_SERVER=" in line
        ]
        tasks = json.loads(pandawn.run_cli("tasks", "--json", PANDAWN_SERVER=address).out)
        assert [task["state"] for task in tasks] == ["TASK_STATE_FINISHED"] * 2
        nodes = json.loads(pandawn.run_cli("nodes", "--json", PANDAWN_SERVER=address).out)
        assert {node["node"] for node in nodes} == NODES
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_an_interrupted_demo_takes_all_its_processes_with_it(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    demo = pandawn.start("demo", "--dir", str(tmp_path / "demo"))
    wait_until(lambda: len(_children(demo, "pandawn-pilot")) >= len(NODES))
    children = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    _, said = demo.communicate(timeout=100)
    assert demo.returncode == 130
    assert "Traceback" not in said
    assert [child for child in children if child.is_running()] == []


def test_a_server_killed_by_anybody_is_started_again_at_its_address(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    demo = pandawn.start("demo", "--dir", str(tmp_path / "demo"))
    try:
        wait_until(lambda: len(_children(demo, "pandawn-pilot")) >= len(NODES))
        (server,) = _children(demo, "pandawn-server")
        command = server.cmdline()
        server.kill()
        wait_until(
            lambda: (
                [p.cmdline() for p in _children(demo, "pandawn-server") if p.pid != server.pid]
                == [command]
            )
        )
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=100)


def test_a_demo_that_cannot_start_tells_what_the_server_said(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    database = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    said = pandawn.run("demo", "--dir", str(tmp_path / "demo"), "--database", database)
    assert said.status == 1
    assert "127.0.0.1:1" in said.err
    assert "the whole log:" in said.err
    assert "Traceback" not in said.err


def _children(demo: subprocess.Popen[str], program: str) -> list[psutil.Process]:
    """Returns the running processes of a demo that are this program."""
    found = []
    for child in psutil.Process(demo.pid).children():
        try:
            if any(word.endswith(program) for word in child.cmdline()):
                found.append(child)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found
