"""Parts of the demo that need no server."""

import io
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pandawn.broker.v1 import job_pb2, task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import sandbox
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.demo import chaos, supervisor
from pandawn_tools.demo.board import Standing
from pandawn_tools.demo.cluster import Cluster, Engines, Process
from pandawn_tools.demo.picture import draw, merge
from pandawn_tools.demo.place import FILE_NAMES, Place, analysis_dir, prepare
from pandawn_tools.demo.result import DemoResult, JobDetail, TaskResult, task_result
from pandawn_tools.demo.users import ALICE, ANALYSES

PAIR = [("pt1", float), ("pt2", float), ("eta1", float), ("eta2", float), ("mass", float)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in a minute"
        time.sleep(0.02)


def make_task(output_dir: Path, user: str = "alice") -> TaskResult:
    return TaskResult(
        task_id=1,
        user=user,
        jobs_finished=2,
        jobs_failed=0,
        jobs=(),
        input_bytes=100,
        bytes_from_cache=25,
        output_dir=str(output_dir),
    )


def make_detail(job_id: int, completions: int = 1) -> JobDetail:
    return JobDetail(
        job=job_pb2.Job(job_id=job_id), input_lfn="f", completions=completions, role="run"
    )


def write_output(directory: Path, name: str, masses: list[float]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    pairs = np.zeros(len(masses), PAIR)
    pairs["mass"] = masses
    np.savez(directory / f"{name}.zpeak.npz", pairs=pairs)


def test_a_directory_is_filled_with_the_physics_files(tmp_path: Path) -> None:
    place = prepare(tmp_path / "demo")
    assert sorted(path.name for path in place.data.iterdir()) == sorted(FILE_NAMES)
    assert all(path.stat().st_size > 100_000 for path in place.data.iterdir())


def test_a_directory_can_be_used_again_with_cold_caches(tmp_path: Path) -> None:
    first, second = prepare(tmp_path), prepare(tmp_path)
    assert first.root == second.root
    assert first.node("wn01") != second.node("wn01")
    assert {a.dataset(first) for a in ANALYSES}.isdisjoint({a.dataset(second) for a in ANALYSES})


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="cannot write") as caught:
        prepare(tmp_path / "file" / "demo")
    assert caught.value.status is ExitStatus.USAGE


def test_the_user_s_code_is_shipped_and_packed() -> None:
    archive = sandbox.pack(analysis_dir(), [])
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        assert {"zpeak.py", "muons.py"} <= set(tar.getnames())


def test_a_pair_that_several_files_hold_counts_once(tmp_path: Path) -> None:
    write_output(tmp_path, "one", [91.0, 90.0])
    write_output(tmp_path, "two", [91.0, 89.0])
    merged = merge(tmp_path)
    assert sorted(merged.masses) == [89.0, 90.0, 91.0]
    assert (merged.files, merged.pairs) == (2, 4)


def test_outputs_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=str(tmp_path)):
        merge(tmp_path)
    (tmp_path / "a.zpeak.npz").write_bytes(b"not an archive")
    with pytest.raises(CliError, match=str(tmp_path)):
        merge(tmp_path)


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    write_output(tmp_path / "a", "one", [91.0, 90.5, 88.0])
    write_output(tmp_path / "b", "one", [91.0])
    draw([make_task(tmp_path / "a"), make_task(tmp_path / "b", "bob")], tmp_path / "z.png")
    assert (tmp_path / "z.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "z.part").exists()


def test_the_result_has_the_keys_that_programs_rely_on(tmp_path: Path) -> None:
    task = task_pb2.Task(
        task_id=3,
        user="alice",
        job_counts=[task_pb2.StateCount(state=types.JOB_STATE_FINISHED, count=1)],
        input_bytes=10,
        bytes_from_cache=4,
        output_url=(tmp_path / "out put").as_uri(),
    )
    job = job_pb2.Job(job_id=5, kind=types.JOB_KIND_BUILD, node="wn01", attempt=2, input_bytes=10)
    result = DemoResult([task_result(Standing(task, [job]))], plot="z.png", wall_s=1.5).json()
    assert result == {
        "tasks": [
            {
                "task_id": 3,
                "user": "alice",
                "jobs_finished": 1,
                "jobs_failed": 0,
                "jobs": [
                    {
                        "job_id": 5,
                        "kind": "build",
                        "node": "wn01",
                        "attempt": 2,
                        "input_bytes": 10,
                        "bytes_from_cache": 0,
                    }
                ],
                "input_bytes": 10,
                "bytes_from_cache": 4,
                "output_dir": str(tmp_path / "out put"),
            }
        ],
        "plot": "z.png",
        "wall_s": 1.5,
    }


def write_witnesses(place: Place, *, twice: str = "") -> None:
    for analysis in ANALYSES:
        path = place.completions.with_name(f"{place.completions.name}.{analysis.user}")
        names = [*FILE_NAMES, *([twice] if twice and analysis is ALICE else [])]
        path.write_text("".join(f"{name}\n" for name in names))


def test_chaos_is_survived_when_each_job_ran_once(tmp_path: Path) -> None:
    place = Place(tmp_path, "r")
    write_witnesses(place)
    assert "none ran twice" in chaos.verify(place, {"alice": [make_detail(1)]}, kills=2)


def test_chaos_has_won_when_a_payload_ran_twice_to_its_end(tmp_path: Path) -> None:
    place = Place(tmp_path, "r")
    write_witnesses(place, twice=FILE_NAMES[3])
    with pytest.raises(CliError) as caught:
        chaos.verify(place, {"alice": [make_detail(1)]}, kills=1)
    assert caught.value.details == (f"the payload of alice over {FILE_NAMES[3]} succeeded 2 times",)


@pytest.mark.parametrize(("completions", "kills"), [(0, 1), (2, 1), (1, 0)])
def test_chaos_has_won_when_a_job_is_lost_or_doubled_or_nobody_was_killed(
    tmp_path: Path, completions: int, kills: int
) -> None:
    place = Place(tmp_path, "r")
    write_witnesses(place)
    with pytest.raises(CliError, match="lost or ran twice"):
        chaos.verify(place, {"alice": [make_detail(1, completions)]}, kills)


class SleepyCluster(Cluster):
    """A cluster whose server and pilot are processes that do nothing."""

    def __init__(self, logs: Path) -> None:
        super().__init__(Engines("sqlite:///x", "memory:"), logs)
        self.starts = 0

    def start_server(self) -> None:
        self.starts += 1
        self.server = self._sleeper("the server")

    def start_pilot(self, node: str, queue: str, disk: Path) -> None:
        del queue, disk
        self.pilots.append(self._sleeper(f"the pilot of {node}"))

    def _sleeper(self, name: str) -> Process:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        return Process(name, command, self._logs / "log")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SleepyCluster]:
    made = SleepyCluster(tmp_path)
    made.start_server()
    made.start_pilot("wn01", "Q", tmp_path)
    yield made
    for process in made.running:
        process.kill()


@pytest.fixture
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_GRACE_S", 0.0)
    monkeypatch.setattr(supervisor, "_POLL_S", 0.01)


@pytest.mark.usefixtures("_no_grace")
def test_a_killed_server_and_a_killed_pilot_are_started_again(cluster: SleepyCluster) -> None:
    said: list[str] = []
    with supervisor.Supervisor(cluster, said.append) as watcher:
        before = cluster.server_pid
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: cluster.starts == 2)
        pilot = cluster.pilots[0].child.pid
        os.kill(pilot, signal.SIGKILL)
        wait_until(lambda: cluster.pilots[0].child.pid != pilot)
        watcher.check()
    assert cluster.server_pid != before
    assert any(str(before) in text for text in said)


@pytest.mark.usefixtures("_no_grace")
def test_what_dies_again_and_again_ends_the_demo_with_its_log(cluster: SleepyCluster) -> None:
    with supervisor.Supervisor(cluster, lambda _: None) as watcher:
        pilot = cluster.pilots[0]
        pilot.command = [sys.executable, "-c", "print('no disk'); raise SystemExit(2)"]
        os.kill(pilot.child.pid, signal.SIGKILL)

        def has_failed() -> bool:
            try:
                watcher.check()
            except CliError as error:
                assert "no disk" in error.details[-1]  # noqa: PT017  # the loop ends with it
                return True
            return False

        wait_until(has_failed)


@pytest.mark.usefixtures("_no_grace")
def test_a_server_that_somebody_else_started_is_left_alone(
    cluster: SleepyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def taken() -> bool:
        asked.append(True)
        return True

    monkeypatch.setattr(cluster, "is_port_taken", taken)
    with supervisor.Supervisor(cluster, lambda _: None) as watcher:
        os.kill(cluster.server_pid, signal.SIGKILL)
        wait_until(lambda: len(asked) > 3)
        watcher.check()
    assert cluster.starts == 1


@pytest.mark.usefixtures("_no_grace")
def test_losing_the_race_for_the_port_to_somebody_else_is_no_failure(
    cluster: SleepyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[bool] = []

    def lose() -> None:
        lost.append(True)
        raise CliError(ExitStatus.WORK_FAILED, "DEMO_FAILED", "the port is taken")

    monkeypatch.setattr(cluster, "is_port_taken", lambda: bool(lost))
    monkeypatch.setattr(cluster, "start_server", lose)
    said: list[str] = []
    with supervisor.Supervisor(cluster, said.append) as watcher:
        os.kill(cluster.server_pid, signal.SIGKILL)
        wait_until(lambda: any("left alone" in text for text in said))
        watcher.check()
    assert lost == [True]


def test_stopping_ends_every_process_even_one_that_will_not(tmp_path: Path) -> None:
    made = SleepyCluster(tmp_path)
    made.start_server()
    made.start_pilot("wn01", "Q", tmp_path)
    made.stop()
    assert made.running == []


def test_children_get_none_of_the_user_s_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANDAWN_DATABASE", "postgresql://elsewhere")
    log = tmp_path / "log"
    script = "import os; print(sorted(k for k in os.environ if k.startswith('PANDAWN_')))"
    Process("p", [sys.executable, "-c", script], log).child.wait(60)
    assert log.read_text() == "[]\n"
