"""Pilots that wait for work in the installed server: who is answered, and what becomes of the others."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, filecatalog_pb2_grpc
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from tests.fixtures.config import queue_request
from tests.fixtures.otlp import Collector
from tests.fixtures.server import PandawnServer

QUEUE = "analysis"
# Of the one file that there is: it makes its version.
CHECKSUM = "sha256:" + "0a" * 32
# For calls that should answer at once: generous, and only so that no test hangs.
TIMEOUT_S = 30.0
GB = 10**9


@pytest.fixture
def channel(observed_server: PandawnServer) -> grpc.Channel:
    """A channel to a server with one queue, on each engine."""
    channel = observed_server.channel()
    queueconfig_pb2_grpc.QueueConfigStub(channel).ApplyConfig(
        queue_request(QUEUE, storage_root="file:///storage"), timeout=TIMEOUT_S
    )
    return channel


def register(channel: grpc.Channel, node: str) -> str:
    stub = dispatcher_pb2_grpc.DispatcherStub(channel)
    request = pilot_pb2.RegisterPilotRequest(
        request_id=f"pilot-{node}", queue=QUEUE, node=node, transports=["file"]
    )
    return stub.RegisterPilot(request, timeout=TIMEOUT_S).pilot_id


def asking(pilot_id: str, wait_s: int, request_id: str = "r1") -> dispatcher_pb2.AcquireJobsRequest:
    return dispatcher_pb2.AcquireJobsRequest(
        pilot_id=pilot_id, request_id=request_id, max_jobs=1, wait=Duration(seconds=wait_s)
    )


def submit(channel: grpc.Channel, lfn: str = "") -> int:
    """Submits a task of one job, which reads a file if one is named."""
    file = task_pb2.TaskInput(
        file=common_pb2.File(lfn=lfn, size_bytes=GB, checksum=CHECKSUM),
        url=f"file:///storage/{lfn}",
    )
    spec = task_pb2.TaskSpec(
        user="anna",
        dataset=f"user.anna.{time.monotonic_ns()}",
        queue=QUEUE,
        command=["true"],
        inputs=[file] if lfn else [],
        files_per_job=1 if lfn else 0,
        job_count=0 if lfn else 1,
    )
    stub = broker_pb2_grpc.BrokerStub(channel)
    request = broker_pb2.SubmitTaskRequest(request_id=spec.dataset, task=spec)
    return stub.SubmitTask(request, timeout=TIMEOUT_S).task.task_id


def test_a_new_job_answers_the_call_of_the_node_that_holds_its_file_and_no_other(
    channel: grpc.Channel, collector: Collector
) -> None:
    nodes = [f"wn{number}.example.org" for number in range(1, 5)]
    pilots = {node: register(channel, node) for node in nodes}
    filecatalog_pb2_grpc.FileCatalogStub(channel).AddFiles(
        filecatalog_pb2.AddFilesRequest(
            site=QUEUE,
            node=nodes[2],
            files=[common_pb2.File(lfn="a.root", size_bytes=GB, version=CHECKSUM)],
        ),
        timeout=TIMEOUT_S,
    )
    stub = dispatcher_pb2_grpc.DispatcherStub(channel)
    polls = {
        node: stub.AcquireJobs.future(asking(pilot, 20), timeout=TIMEOUT_S)
        for node, pilot in pilots.items()
    }
    collector.wait_for_polls(len(nodes))
    submit(channel, "a.root")
    # Had another one the job, there were none for this.
    assert len(polls[nodes[2]].result().leases) == 1
    for poll in polls.values():
        poll.cancel()


def test_a_job_for_a_pilot_that_hung_up_goes_to_the_next_one(
    channel: grpc.Channel, collector: Collector
) -> None:
    stub = dispatcher_pb2_grpc.DispatcherStub(channel)
    gone, next_one = register(channel, "wn1.example.org"), register(channel, "wn2.example.org")
    poll = stub.AcquireJobs.future(asking(gone, 60), timeout=90)
    collector.wait_for_polls(1)
    poll.cancel()
    submit(channel)
    answer = stub.AcquireJobs(asking(next_one, 20), timeout=TIMEOUT_S)
    assert len(answer.leases) == 1


def test_a_repeat_of_a_call_that_waits_is_the_one_that_is_answered(
    channel: grpc.Channel, collector: Collector
) -> None:
    stub = dispatcher_pb2_grpc.DispatcherStub(channel)
    pilot = register(channel, "wn1.example.org")
    first = stub.AcquireJobs.future(asking(pilot, 30), timeout=90)
    collector.wait_for_polls(1)
    repeat = stub.AcquireJobs.future(asking(pilot, 30), timeout=90)
    assert not first.result().leases
    submit(channel)
    assert len(repeat.result().leases) == 1
