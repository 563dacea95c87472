"""The command line as a whole, in this process: usage, errors, exit statuses, what is sent."""

import json
import time
from pathlib import Path

import grpc
import pytest

from pandawn.broker.v1 import task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn.monitor.v1 import monitor_pb2
from pandawn_tools.cli import commands, progress, tasks
from tests.fixtures.command import RunCli
from tests.fixtures.fake_broker import Failure, FakeBroker
from tests.fixtures.ports import LOOPBACK, free_port

pytestmark = pytest.mark.usefixtures("hurried")

COMMANDS = tuple(command.name for command in commands.COMMANDS if command.name)


def task(state: task_pb2.TaskState.ValueType, **counts: int) -> task_pb2.Task:
    rows = [
        task_pb2.StateCount(state=types.JobState.Value(f"JOB_STATE_{name.upper()}"), count=number)
        for name, number in counts.items()
    ]
    return task_pb2.Task(task_id=7, state=state, job_counts=rows)


RUNNING = task(task_pb2.TASK_STATE_RUNNING, running=2)
FINISHED = task(task_pb2.TASK_STATE_FINISHED, finished=2)
CANCELLED = task(task_pb2.TASK_STATE_CANCELLED, cancelled=2)


@pytest.fixture(autouse=True)
def _poll_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FIRST_POLL_S", 0.001)


def test_help_names_every_command_and_every_exit_status(run_cli: RunCli) -> None:
    said = run_cli("--help")
    assert said.status == 0
    for word in (*COMMANDS, "0 done", "1 the work failed", "2 wrong usage", "3 the server refused"):
        assert word in said.out
    assert "4 the server cannot be reached" in " ".join(said.out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_fits_80_columns(run_cli: RunCli, command: str) -> None:
    said = run_cli(command, "--help", COLUMNS="80")
    assert said.status == 0
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("job",),
        ("job", "x"),
        ("job", "0"),
        ("job", "99999999999999999999"),
        ("jobs", "--state", "runing"),
        ("jobs", "--limit", "0"),
        ("kill",),
        ("retry",),
        ("submit",),
        ("submit", "--", "true"),
        ("submit", "--jobs", "1"),
        ("submit", "--jobs", "2147483648", "--", "true"),
        ("submit", "--jobs", "1", "no-such-file", "--", "true"),
        ("submit", "--jobs", "1", "--memory", "many", "--", "true"),
        ("submit", "--jobs", "1", "--memory", "2", "--", "true"),
        ("submit", "--jobs", "1", "--wall-time", "5", "--", "true"),
        ("submit", "--jobs", "1", "--env", "X", "--", "true"),
        ("submit", "--jobs", "1", "--build", "--", "true"),
        ("submit", "--jobs", "1", "--build-command", "'", "--extra", "x", "--", "true"),
        ("submit", "--jobs", "1", "--", "echo hello"),
        ("queues", "apply", "Q", "--status", "on"),
        ("queues", "apply", "Q", "--storage-root", "here"),
        ("queues", "apply", "Q", "--reset", "colour"),
        ("queues", "apply", "Q", "--cores", "2", "--reset", "cores"),
        ("access", "grant", "team:x", "Q"),
        ("access", "grant", "anna", "Q", "--for", "soon"),
        ("audit", "--since", "yesterday"),
        ("cache", "add", "wn01"),
        ("cache", "add", "wn01", "--lfn", "x"),
        ("tasks", "--server", "a b"),
        ("demo", "--chaos", "monkey"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_word_on_standard_error(
    run_cli: RunCli, arguments: tuple[str, ...]
) -> None:
    said = run_cli(*arguments)
    assert said.status == 2
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err


def test_a_server_that_is_not_there_ends_with_4(run_cli: RunCli) -> None:
    said = run_cli("tasks", "--server", f"{LOOPBACK}:{free_port()}")
    assert said.status == 4
    assert "SERVER_UNREACHABLE" in said.err


def test_a_refusal_ends_with_3(run_cli: RunCli, fake_broker: FakeBroker) -> None:
    fake_broker.failures.append(Failure(grpc.StatusCode.NOT_FOUND, "no task 9", "TASK_NOT_FOUND"))
    said = run_cli("tasks", "9", "--server", fake_broker.address)
    assert said.status == 3
    assert "no task 9 [TASK_NOT_FOUND]" in said.err


def test_the_server_may_stand_before_the_command_and_after_it(
    run_cli: RunCli, fake_broker: FakeBroker
) -> None:
    fake_broker.task_states.append(FINISHED)
    nobody = f"{LOOPBACK}:{free_port()}"
    assert run_cli("--server", fake_broker.address, "tasks", "7").status == 0
    assert run_cli("--server", nobody, "tasks", "7", "--server", fake_broker.address).status == 0
    assert run_cli("tasks", "7", PANDAWN_SERVER=fake_broker.address).status == 0


def test_what_follows_the_dashes_is_the_command_and_not_a_file(
    run_cli: RunCli, fake_broker: FakeBroker, tmp_path: Path
) -> None:
    (tmp_path / "a.root").write_text("x")
    said = run_cli(
        *("submit", str(tmp_path / "a.root"), "--server", fake_broker.address),
        *("--user", "ann", "--dataset", "d", "--json"),
        *("--", "prog", "--jobs", "x", "--", "%IN"),
    )
    assert said.status == 0, said.err
    assert json.loads(said.out)["dataset"] == "d"


def test_one_submission_is_one_task_though_the_reply_was_lost(
    run_cli: RunCli, fake_broker: FakeBroker
) -> None:
    fake_broker.failures.append(
        Failure(grpc.StatusCode.UNAVAILABLE, "Connection reset", after_work=True)
    )
    said = run_cli("submit", "--jobs", "1", "--server", fake_broker.address, "--", "true")
    assert said.status == 0, said.err
    assert len(set(fake_broker.request_ids)) == 1
    assert len(fake_broker.tasks) == 1


def test_a_task_that_finishes_is_waited_for_with_status_0(
    run_cli: RunCli, fake_broker: FakeBroker
) -> None:
    fake_broker.task_states += [RUNNING, FINISHED]
    said = run_cli("wait", "7", "--server", fake_broker.address)
    assert said.status == 0
    assert said.err.splitlines() == ["task 7: 2 running", "task 7: 2 finished"]
    assert "task 7 has finished" in said.out


def test_a_task_that_does_not_finish_gives_status_1(
    run_cli: RunCli, fake_broker: FakeBroker
) -> None:
    fake_broker.task_states.append(CANCELLED)
    said = run_cli("wait", "7", "--server", fake_broker.address, "--json")
    assert json.loads(said.out)["state"] == "TASK_STATE_CANCELLED"
    assert said.status == 1


def test_a_wait_survives_a_restart_of_the_server(run_cli: RunCli, fake_broker: FakeBroker) -> None:
    away = Failure(grpc.StatusCode.UNAVAILABLE, "Connection reset by peer")
    fake_broker.task_states += [RUNNING, RUNNING, FINISHED]
    fake_broker.failures += [away, away, away]
    assert run_cli("wait", "7", "--server", fake_broker.address).status == 0


def test_events_that_are_followed_are_one_json_object_a_line(
    run_cli: RunCli, fake_broker: FakeBroker
) -> None:
    fake_broker.events.append([monitor_pb2.Event(event_id=n, kind="K") for n in (1, 2)])
    said = run_cli("events", "--follow", "--json", "--server", fake_broker.address)
    assert [json.loads(line)["event_id"] for line in said.out.splitlines()] == [1, 2]


def test_events_that_are_not_followed_are_one_json_list(
    run_cli: RunCli, fake_broker: FakeBroker
) -> None:
    fake_broker.events.append([monitor_pb2.Event(event_id=n, kind="K") for n in (1, 2)])
    said = run_cli("events", "--json", "--server", fake_broker.address)
    assert [event["event_id"] for event in json.loads(said.out)] == [1, 2]


def test_a_bug_is_reported_without_a_traceback(
    run_cli: RunCli, fake_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by 0")

    fake_broker.task_states.append(FINISHED)
    monkeypatch.setattr(tasks, "_row", broken)
    said = run_cli("tasks", "7", "--server", fake_broker.address)
    assert said.status == 70
    assert "ZeroDivisionError" in said.err
    assert "Traceback" not in said.err


def test_an_interrupt_ends_with_130(
    run_cli: RunCli, fake_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    fake_broker.task_states.append(RUNNING)
    monkeypatch.setattr(time, "sleep", interrupt)
    said = run_cli("wait", "7", "--server", fake_broker.address)
    assert said.status == 130
    assert "continues" in said.err
    assert "Traceback" not in said.err
