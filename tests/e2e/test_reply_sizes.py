"""No reply is longer than what clients take by default, whatever is asked for.

The channel has the default limit of gRPC's libraries, 4 MiB: a longer reply fails the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grpc
import pytest
from google.protobuf.descriptor import Descriptor

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, filecatalog_pb2_grpc, lookup_pb2
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from pandawn_server.domain.dispatch.reply_size import LIST_BYTES, MAX_REPLY_BYTES
from tests.fixtures.config import queue_request
from tests.fixtures.messages import methods
from tests.fixtures.server import running_servers

TIMEOUT_S = 60.0

KEPT_SHORT: Mapping[str, str] = {
    # Tried below.
    "Broker.GetJob": "submission takes no longer description; the last attempts that fit",
    "Broker.ListJobs": "page",
    "Dispatcher.AcquireJobs": "submission takes no longer description; fewer jobs",
    "FileCatalog.ListNodeFiles": "page",
    "FileCatalog.LocateFiles": "fewer nodes are named",
    # Tried in test_config_reply_sizes.py, and CheckAccess in tests/unit/wire/access.
    "QueueConfig.ApplyConfig": "page",
    "QueueConfig.CheckAccess": "the first entries that fit",
    "QueueConfig.DiffRevisions": "page a message",
    "QueueConfig.ExportConfig": "page a message",
    "QueueConfig.ListQueues": "page",
    "QueueConfig.Rollback": "page",
    # By the same function, see tests/unit/wire/edge/test_pages.py.
    "QueueConfig.ListAccess": "page",
    "QueueConfig.ListOverrides": "page",
    "QueueConfig.ListRevisions": "page",
    "Broker.ListTasks": "page",
    "FileCatalog.ListPins": "page",
    "Monitor.CountJobs": "page",
    "Monitor.ListAudit": "page",
    "Monitor.ListNodes": "page",
    "Monitor.ListPilots": "page",
    "Monitor.StreamEvents": "page a message",
    # By the largest number of items times the longest of them, in bytes.
    "Broker.RetryTask": "100,000 jobs of 9",
    "Dispatcher.RenewLeases": "1,000 answers of 1,200",
    "Dispatcher.ReportJobs": "100 answers of 1,200",
    "Dispatcher.ReleaseJobs": "100 answers of 1,200",
    "FileCatalog.CheckFiles": "10,000 answers of 16",
    "FileCatalog.GetCoverage": "10,000 nodes of 280",
    # One job or task, whose labels, states and nodes are few.
    "Broker.CancelJob": "1 job of 40,000",
    "Broker.CancelTask": "1 task of 40,000",
    "Broker.ExplainJob": "1 job of 40,000",
    "Broker.GetTask": "1 task of 40,000",
    "Broker.RetryJob": "1 job of 40,000",
    "Broker.SubmitLargeTask": "1 task of 40,000",
    "Broker.SubmitTask": "1 task of 40,000",
    # What a credential says, which came in the headers of the call.
    "Broker.WhoAmI": "1 credential of 16,000",
    # One queue: 13 lists and maps of 1,000 elements and 100,000 bytes, and 19 texts of 4,000. See also
    # test_config_reply_sizes.py.
    "Dispatcher.RegisterPilot": "1 queue of 1,700,000",
    "QueueConfig.ClearOverride": "1 queue of 1,700,000",
    "QueueConfig.GetQueue": "1 queue with origins of 1,900,000",
    "QueueConfig.SetOverride": "1 queue of 1,700,000",
    "QueueConfig.WatchQueue": "1 queue of 1,700,000",
}
"""What keeps the replies below the limit whose messages can grow, by method."""


def grows(kind: Descriptor, above: tuple[str, ...] = ()) -> bool:
    """Whether a message has a list in it."""
    return kind.full_name not in above and any(
        field.is_repeated
        or (field.message_type is not None and grows(field.message_type, (*above, kind.full_name)))
        for field in kind.fields
    )


def test_of_each_method_whose_reply_can_grow_it_is_said_what_keeps_it_short() -> None:
    growing = {
        f"{method.descriptor.containing_service.name}.{method.descriptor.name}"
        for method in methods()
        if grows(method.descriptor.output_type)
    }
    assert growing == set(KEPT_SHORT)
    for how in KEPT_SHORT.values():
        count, _, rest = how.partition(" ")
        if count.replace(",", "").isdigit():
            size = int(rest.rpartition(" ")[2].replace(",", ""))
            assert int(count.replace(",", "")) * size < LIST_BYTES, how


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with running_servers() as start, start().channel() as opened:
        for name in ("q", "short"):
            queueconfig_pb2_grpc.QueueConfigStub(opened).ApplyConfig(
                queue_request(name, site="T3", storage_root="file:///store"), timeout=TIMEOUT_S
            )
        yield opened


def submit(channel: grpc.Channel, dataset: str, queue: str = "q", **more: object) -> task_pb2.Task:
    task = task_pb2.TaskSpec(
        user="anna",
        dataset=dataset,
        queue=queue,
        command=["true"],
        **more,  # type: ignore[arg-type]
    )
    request = broker_pb2.SubmitTaskRequest(request_id=dataset, task=task)
    return broker_pb2_grpc.BrokerStub(channel).SubmitTask(request, timeout=TIMEOUT_S).task


def long_inputs(count: int) -> list[task_pb2.TaskInput]:
    path = "root://se.example.org//" + "p" * 1700
    names = [f"{number}." + "x" * 200 for number in range(count)]
    return [
        task_pb2.TaskInput(file=common_pb2.File(lfn=name, size_bytes=1), url=f"{path}/{name}")
        for name in names
    ]


def test_the_largest_jobs_are_handed_out_and_shown(channel: grpc.Channel) -> None:
    largest = 1500
    tasks = [
        submit(channel, f"long{n}", inputs=long_inputs(largest), files_per_job=largest)
        for n in range(2)
    ]
    dispatcher = dispatcher_pb2_grpc.DispatcherStub(channel)
    hello = pilot_pb2.RegisterPilotRequest(
        request_id="r", queue="q", node="wn1", transports=["file", "root"]
    )
    pilot = dispatcher.RegisterPilot(hello, timeout=TIMEOUT_S)
    shown = (("pandawn-session", pilot.session_token),)
    jobs = []
    for number in range(2):
        ask = dispatcher_pb2.AcquireJobsRequest(
            pilot_id=pilot.pilot_id, request_id=f"a{number}", max_jobs=2
        )
        reply = dispatcher.AcquireJobs(ask, metadata=shown, timeout=TIMEOUT_S)
        (lease,) = reply.leases
        assert LIST_BYTES // 2 < reply.ByteSize() <= MAX_REPLY_BYTES
        jobs.append(lease.job)
    assert {job.task_id for job in jobs} == {task.task_id for task in tasks}
    get = broker_pb2.GetJobRequest(job_id=jobs[0].job_id)
    found = broker_pb2_grpc.BrokerStub(channel).GetJob(get, timeout=TIMEOUT_S)
    assert (len(found.attempts), len(found.files) > largest) == (1, True)


def test_pages_of_jobs_with_long_labels_are_cut_and_lose_nothing(channel: grpc.Channel) -> None:
    labels = {f"l{number}": "x" * 255 for number in range(32)}
    task = submit(channel, "labels", "short", job_count=600, labels=labels)
    broker = broker_pb2_grpc.BrokerStub(channel)
    seen: list[int] = []
    request = broker_pb2.ListJobsRequest(task_id=task.task_id, page_size=1000)
    while True:
        page = broker.ListJobs(request, timeout=TIMEOUT_S)
        seen += (job.job_id for job in page.jobs)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(seen) == len(set(seen)) == 600


def test_files_and_their_places_are_cut(channel: grpc.Channel) -> None:
    catalog = filecatalog_pb2_grpc.FileCatalogStub(channel)
    files = [
        common_pb2.File(
            lfn=f"{number:04d}." + "n" * 240,
            scope="s" * 60,
            size_bytes=1,
            version="sha256:" + "0" * 64,
            guid=f"{number:04d}-" + "g" * 59,
        )
        for number in range(1000)
    ]
    nodes = [f"wn{number:02d}." + "n" * 240 for number in range(40)]
    for node in nodes:
        add = filecatalog_pb2.AddFilesRequest(site="T3", node=node, files=files)
        catalog.AddFiles(add, timeout=TIMEOUT_S)
    refs = [common_pb2.FileRef(lfn=file.lfn, scope=file.scope) for file in files]
    only = common_pb2.File(lfn="only", size_bytes=1)
    catalog.AddFiles(
        filecatalog_pb2.AddFilesRequest(site="T3", node=nodes[0], files=[only]), timeout=TIMEOUT_S
    )
    refs[7] = common_pb2.FileRef(lfn="only")
    found = catalog.LocateFiles(
        lookup_pb2.LocateFilesRequest(site="T3", files=refs), timeout=TIMEOUT_S
    )
    assert found.ByteSize() <= MAX_REPLY_BYTES
    assert [place.node_count for place in found.locations[6:9]] == [40, 1, 40]
    assert list(found.locations[7].nodes) == nodes[:1]
    assert all(0 < len(place.nodes) < 40 for place in found.locations if place.node_count == 40)

    version = "sha256:" + "0" * 64
    more = [
        common_pb2.File(lfn=f"m{n:05d}." + "n" * 240, scope="s" * 60, version=version)
        for n in range(12_000)
    ]
    for begin in range(0, len(more), 6000):
        add = filecatalog_pb2.AddFilesRequest(
            site="T3", node=nodes[0], files=more[begin : begin + 6000]
        )
        catalog.AddFiles(add, timeout=TIMEOUT_S)
    request = lookup_pb2.ListNodeFilesRequest(site="T3", node=nodes[0], page_size=10_000)
    pages: list[int] = []
    while True:
        page = catalog.ListNodeFiles(request, timeout=TIMEOUT_S)
        pages.append(len(page.files))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert (sum(pages), pages[0] < 10_000) == (13_001, True)
