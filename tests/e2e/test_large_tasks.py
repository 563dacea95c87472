"""Tasks with more inputs than a message holds, and labels, by RPC and by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from pandawn.broker.v1 import job_pb2 as broker_job
from pandawn.common.v1 import common_pb2
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from tests.fixtures.config import queue_request
from tests.fixtures.rpc import reason_of
from tests.fixtures.server import PandawnServer, running_servers

TIMEOUT_S = 60.0
PANDAWN = Path(sys.executable).with_name("pandawn")
INVALID = grpc.StatusCode.INVALID_ARGUMENT

Stub = broker_pb2_grpc.BrokerStub


@pytest.fixture(scope="module")
def server() -> Iterator[PandawnServer]:
    with running_servers() as start:
        one = start()
        with one.channel() as channel:
            queueconfig_pb2_grpc.QueueConfigStub(channel).ApplyConfig(
                queue_request("q", site="T3", storage_root="file:///store"), timeout=TIMEOUT_S
            )
        yield one


@pytest.fixture(scope="module")
def broker(server: PandawnServer) -> Iterator[Stub]:
    with server.channel() as channel:
        yield Stub(channel)


def files(first: int, count: int) -> list[task_pb2.TaskInput]:
    return [
        task_pb2.TaskInput(
            file=common_pb2.File(lfn=f"file.{number}", size_bytes=1), url=f"file:///d/file.{number}"
        )
        for number in range(first, first + count)
    ]


def header(request_id: str, **odd: object) -> broker_pb2.SubmitLargeTaskRequest:
    fields = {"user": "anna", "dataset": f"d.{request_id}", "queue": "q", "files_per_job": 100}
    task = task_pb2.TaskSpec(command=["true"], **(fields | odd))  # type: ignore[arg-type]
    request = broker_pb2.SubmitTaskRequest(request_id=request_id, task=task)
    return broker_pb2.SubmitLargeTaskRequest(header=request)


def part(first: int, count: int) -> broker_pb2.SubmitLargeTaskRequest:
    return broker_pb2.SubmitLargeTaskRequest(inputs=files(first, count))


def submit(broker: Stub, *messages: broker_pb2.SubmitLargeTaskRequest) -> task_pb2.Task:
    return broker.SubmitLargeTask(iter(messages), timeout=TIMEOUT_S).task


def refusal(broker: Stub, *messages: broker_pb2.SubmitLargeTaskRequest) -> tuple[object, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        submit(broker, *messages)
    return caught.value.code(), reason_of(caught.value), caught.value.details() or ""


def test_inputs_in_parts_become_one_task_in_their_order(broker: Stub) -> None:
    task = submit(broker, header("order"), part(0, 150), part(150, 0), part(150, 60))
    assert [(c.state, c.count) for c in task.job_counts] == [(common_pb2.JOB_STATE_ACTIVATED, 3)]
    request = broker_pb2.ListJobsRequest(task_id=task.task_id)
    jobs = broker.ListJobs(request, timeout=TIMEOUT_S).jobs
    last = broker.GetJob(broker_pb2.GetJobRequest(job_id=jobs[-1].job_id), timeout=TIMEOUT_S)
    names = [file.file.lfn for file in last.files if file.role == broker_job.FILE_ROLE_INPUT]
    assert names == [f"file.{number}" for number in range(200, 210)]


def test_a_repeated_stream_gives_the_same_task_however_it_is_cut(broker: Stub) -> None:
    task = submit(broker, header("again"), part(0, 100), part(100, 100))
    assert submit(broker, header("again"), part(0, 200)).task_id == task.task_id
    code, reason, _ = refusal(broker, header("again"), part(0, 199))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "header"),
        ([part(0, 1)], "header"),
        ([header("twice"), header("twice")], "header"),
        ([header("x", inputs=files(0, 1)), part(1, 1)], "header.task.inputs"),
        ([header("x"), part(0, 10_001)], "inputs: has 10,001 items"),
        ([header("x"), part(0, 5), part(3, 1)], "task.inputs[5]"),
        ([header("x", files_per_job=10_001), part(0, 5)], "files_per_job"),
    ],
    ids=["nothing", "headless", "two heads", "inputs twice", "crowded", "duplicate", "too many"],
)
def test_a_stream_that_is_no_task_is_refused(
    broker: Stub, messages: list[broker_pb2.SubmitLargeTaskRequest], told: str
) -> None:
    code, _, text = refusal(broker, *messages)
    assert code is INVALID
    assert told in text


def test_tasks_and_jobs_are_found_by_their_labels(broker: Stub) -> None:
    labels = {"prodSourceLabel": "user", "workingGroup": "AP Higgs"}
    task = submit(broker, header("labelled", labels=labels), part(0, 101))
    submit(broker, header("other", labels={"prodSourceLabel": "managed"}), part(0, 1))
    assert dict(task.labels) == labels

    def found(**wanted: str) -> list[int]:
        request = broker_pb2.ListTasksRequest(labels=wanted)
        return [one.task_id for one in broker.ListTasks(request, timeout=TIMEOUT_S).tasks]

    assert found(prodSourceLabel="user") == found(**labels) == [task.task_id]
    assert found(prodSourceLabel="user", workingGroup="x") == found(absent="") == []
    request = broker_pb2.ListJobsRequest(labels=labels, page_size=1)
    page = broker.ListJobs(request, timeout=TIMEOUT_S)
    assert [(job.task_id, dict(job.labels)) for job in page.jobs] == [(task.task_id, labels)]
    request.page_token = page.next_page_token
    rest = broker.ListJobs(request, timeout=TIMEOUT_S)
    assert (len(rest.jobs), rest.next_page_token) == (1, "")
    request.labels["prodSourceLabel"] = "managed"
    with pytest.raises(grpc.RpcError) as caught:
        broker.ListJobs(request, timeout=TIMEOUT_S)
    assert reason_of(caught.value) == "INVALID_PAGE_TOKEN"
    job_id = page.jobs[0].job_id
    for job in (
        broker.GetJob(broker_pb2.GetJobRequest(job_id=job_id), timeout=TIMEOUT_S).job,
        broker.ExplainJob(broker_pb2.ExplainJobRequest(job_id=job_id), timeout=TIMEOUT_S).job,
        broker.CancelJob(broker_pb2.CancelJobRequest(job_id=job_id), timeout=TIMEOUT_S).job,
        broker.RetryJob(
            broker_pb2.RetryJobRequest(request_id="labels", job_id=job_id), timeout=TIMEOUT_S
        ).job,
    ):
        assert dict(job.labels) == labels


@pytest.mark.parametrize(
    "labels",
    [{f"l{number}": "" for number in range(33)}, {"": "x"}, {"a b": "x"}, {"a": "x" * 256}],
    ids=["many", "nameless", "a name with a space", "a long value"],
)
def test_labels_are_bounded(broker: Stub, labels: dict[str, str]) -> None:
    code, _, text = refusal(broker, header("bounds", labels=labels), part(0, 1))
    assert code is INVALID
    assert "task.labels" in text


def test_the_command_line_sends_long_lists_in_parts(server: PandawnServer, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    url = f"root://se.example.org//data/{'n' * 200}"
    listed.write_text("".join(f"{url}.{number} 10 adler32:0a1b2c3d\n" for number in range(5001)))

    def run(*words: str) -> Any:
        command = [str(PANDAWN), words[0], f"--server={server.address}", "--json", *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    how = (f"--inputs={listed}", "--files-per-job=1000", "--label=mine=1", "--queue=q")
    task = run("submit", *how, "--", "true")
    assert task["labels"] == {"mine": "1"}
    assert [one["task_id"] for one in run("tasks", "--label=mine=1")] == [task["task_id"]]
    assert len(run("jobs", "--label=mine=1")) == 6
