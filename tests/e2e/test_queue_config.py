"""The configuration over the wire: applied in one call, watched, overridden, compared and undone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2
from pandawn.queueconfig.v1 import (
    document_pb2,
    override_pb2,
    parameters_pb2,
    queue_pb2,
    queueconfig_pb2_grpc,
    revision_pb2,
)
from tests.fixtures.rpc import code_of, reason_of
from tests.fixtures.server import PandawnServer, StartServer

# For calls that should answer at once: generous, and only so that no test hangs.
TIMEOUT_S = 30.0

QUEUE = document_pb2.DOCUMENT_KIND_QUEUE
SITE = document_pb2.DOCUMENT_KIND_SITE
NOTE = document_pb2.ChangeNote(message="because", tool="test 1")


def stub_of(server: PandawnServer) -> queueconfig_pb2_grpc.QueueConfigStub:
    return queueconfig_pb2_grpc.QueueConfigStub(server.channel())


def change(
    name: str, kind: document_pb2.DocumentKind.ValueType = QUEUE, **parameters: object
) -> document_pb2.DocumentChange:
    return document_pb2.DocumentChange(
        kind=kind,
        name=name,
        parameters=parameters_pb2.QueueParameters(**parameters),  # type: ignore[arg-type]
    )


def apply(
    stub: queueconfig_pb2_grpc.QueueConfigStub, *changes: document_pb2.DocumentChange
) -> document_pb2.ApplyConfigResponse:
    request = document_pb2.ApplyConfigRequest(changes=changes, note=NOTE)
    return stub.ApplyConfig(request, timeout=TIMEOUT_S)


class Watch:
    """A stream that is read by a thread."""

    def __init__(
        self, stub: queueconfig_pb2_grpc.QueueConfigStub, name: str, after: int = 0
    ) -> None:
        self.seen: Queue[queue_pb2.Queue | grpc.StatusCode] = Queue()
        self._stream = stub.WatchQueue(
            queue_pb2.WatchQueueRequest(name=name, after_revision=after), timeout=4 * TIMEOUT_S
        )
        threading.Thread(target=self._read, args=(self._stream,), daemon=True).start()

    def _read(self, stream: Iterator[queue_pb2.WatchQueueResponse]) -> None:
        try:
            for response in stream:
                self.seen.put(response.queue)
            self.seen.put(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            self.seen.put(code_of(error))

    def queue(self) -> queue_pb2.Queue:
        """The next queue."""
        found = self.seen.get(timeout=TIMEOUT_S)
        assert isinstance(found, queue_pb2.Queue), found
        return found

    def end(self) -> grpc.StatusCode:
        """How the stream ended."""
        found = self.seen.get(timeout=TIMEOUT_S)
        assert isinstance(found, grpc.StatusCode), found
        return found


def test_a_change_through_one_server_is_seen_by_who_watches_another(
    start_server: StartServer, migrated_postgres_url: str
) -> None:
    one = start_server(database=migrated_postgres_url)
    other = start_server(database=migrated_postgres_url)
    first = apply(stub_of(one), change("S", SITE, cores=2), change("A", site="S")).revision
    watch = Watch(stub_of(other), "A")
    assert (seen := watch.queue()).parameters.cores == 2
    assert seen.revision == first
    # Written, and of no effect on what the queue does: it is not sent.
    apply(stub_of(one), change("S", SITE, cores=2), change("A", site="S", cores=2))
    third = apply(stub_of(one), change("S", SITE, cores=4, comment="new")).revision
    seen = watch.queue()
    assert (seen.parameters.cores, seen.parameters.comment, seen.revision) == (2, "new", third)
    apply(
        stub_of(one),
        change("B"),
        *(change(f"Q{n}") for n in range(4)),
    )
    apply(stub_of(one), document_pb2.DocumentChange(kind=QUEUE, name="A", remove=True))
    assert watch.end() is grpc.StatusCode.NOT_FOUND


def test_watching_goes_on_after_the_revision_that_was_seen_and_ends_well_with_the_server(
    embedded_server: PandawnServer,
) -> None:
    stub = stub_of(embedded_server)
    revision = apply(stub, change("A", cores=2)).revision
    watch = Watch(stub, "A", after=revision)
    again = Watch(stub, "A", after=revision - 1)
    assert again.queue().revision == revision
    newer = apply(stub, change("A", cores=3)).revision
    assert (watch.queue().revision, again.queue().revision) == (newer, newer)
    assert embedded_server.terminate() == 0
    assert (watch.end(), again.end()) == (grpc.StatusCode.OK, grpc.StatusCode.OK)


def test_an_override_comes_and_goes_for_who_watches(embedded_server: PandawnServer) -> None:
    stub = stub_of(embedded_server)
    apply(stub, change("A", cores=2))
    watch = Watch(stub, "A")
    watch.queue()
    request = override_pb2.SetOverrideRequest(
        request_id="r",
        queue="A",
        parameters=parameters_pb2.QueueParameters(cores=8),
        duration=Duration(seconds=2),
        note=NOTE,
    )
    reply = stub.SetOverride(request, timeout=TIMEOUT_S)
    assert reply.queue.parameters.cores == 8
    assert watch.queue().parameters.cores == 8
    (override,) = stub.ListOverrides(
        override_pb2.ListOverridesRequest(), timeout=TIMEOUT_S
    ).overrides
    assert (override.queue, override.value.cores) == ("A", 8)
    assert (override.origin.message, override.origin.author) == ("because", "local")
    assert watch.queue().parameters.cores == 2


def test_a_repeated_override_is_the_same_and_a_changed_one_is_refused(
    embedded_server: PandawnServer,
) -> None:
    stub = stub_of(embedded_server)
    apply(stub, change("A", cores=2))
    request = override_pb2.SetOverrideRequest(
        request_id="r",
        queue="A",
        parameters=parameters_pb2.QueueParameters(cores=8),
        duration=Duration(seconds=3600),
        note=NOTE,
    )
    first = stub.SetOverride(request, timeout=TIMEOUT_S)
    assert stub.SetOverride(request, timeout=TIMEOUT_S) == first
    request.duration.seconds = 7200
    with pytest.raises(grpc.RpcError) as refused:
        stub.SetOverride(request, timeout=TIMEOUT_S)
    assert (code_of(refused.value), reason_of(refused.value)) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


def test_a_pilot_that_waits_for_jobs_is_sent_away_when_the_queue_goes_offline_elsewhere(
    start_server: StartServer, migrated_postgres_url: str
) -> None:
    one = start_server(database=migrated_postgres_url)
    other = start_server(database=migrated_postgres_url)
    apply(stub_of(one), change("A"))
    dispatcher = dispatcher_pb2_grpc.DispatcherStub(one.channel())
    pilot = dispatcher.RegisterPilot(
        pilot_pb2.RegisterPilotRequest(
            request_id="p", queue="A", node="wn01.example.org", transports=["file"]
        ),
        timeout=TIMEOUT_S,
    )
    waiting = dispatcher.AcquireJobs.future(
        dispatcher_pb2.AcquireJobsRequest(
            pilot_id=pilot.pilot_id, request_id="r", max_jobs=1, wait=Duration(seconds=60)
        ),
        timeout=4 * TIMEOUT_S,
    )
    # The only queue: by the number, or it would be refused.
    stub_of(other).ApplyConfig(
        document_pb2.ApplyConfigRequest(
            changes=[
                change("A", status=parameters_pb2.QUEUE_STATUS_OFFLINE, state_reason="cooling")
            ],
            allowed_removals=1,
        ),
        timeout=TIMEOUT_S,
    )
    # Long before its minute is over.
    answer = waiting.result(timeout=TIMEOUT_S)
    assert answer.drain
    assert "cooling" in answer.idle_reason


def test_what_is_wrong_comes_with_document_and_parameter(embedded_server: PandawnServer) -> None:
    stub = stub_of(embedded_server)
    wrong = [
        change("A", cores=0, storage_root="http://x", comment="a\x1bb"),
        change("bad name"),
        change("C", environment=parameters_pb2.StringMap(values={"1A": ""})),
        document_pb2.DocumentChange(kind=QUEUE, name="A", remove=True),
    ]
    request = document_pb2.ApplyConfigRequest(changes=wrong, validate_only=True)
    found = stub.ApplyConfig(request, timeout=TIMEOUT_S).violations
    assert {(v.position, v.name, v.field) for v in found} == {
        (0, "A", "cores"),
        (0, "A", "storage_root"),
        (0, "A", "comment"),
        (1, "bad name", "name"),
        (2, "C", "environment"),
        (3, "A", "name"),
    }
    with pytest.raises(grpc.RpcError) as caught:
        apply(stub, *wrong)
    assert reason_of(caught.value) == "INVALID_REQUEST"


def test_a_thousand_queues_are_exported_compared_and_rolled_back(server: PandawnServer) -> None:
    stub = stub_of(server)
    base = apply(stub, change("S", SITE, cores=2), change("KEEP", site="S")).revision
    made = apply(stub, *(change(f"Q{n:04d}", site="S") for n in range(1000)))
    assert len(made.diffs) == 1000
    exported = list(stub.ExportConfig(document_pb2.ExportConfigRequest(), timeout=TIMEOUT_S))
    assert {part.revision for part in exported} == {made.revision}
    names = [document.name for part in exported for document in part.documents]
    assert names == ["S", "KEEP", *(f"Q{n:04d}" for n in range(1000))]
    request = revision_pb2.DiffRevisionsRequest(from_revision=base)
    diffs = [d for part in stub.DiffRevisions(request, timeout=TIMEOUT_S) for d in part.diffs]
    assert [d.action for d in diffs] == [document_pb2.DOCUMENT_ACTION_CREATE] * 1000
    back = revision_pb2.RollbackRequest(revision=base, note=NOTE)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Rollback(back, timeout=TIMEOUT_S)
    assert reason_of(caught.value) == "TOO_MANY_QUEUES"
    back.allowed_removals = 1000
    assert stub.Rollback(back, timeout=TIMEOUT_S).revision == made.revision + 1
    listed = stub.ListQueues(queue_pb2.ListQueuesRequest(), timeout=TIMEOUT_S).queues
    assert [queue.name for queue in listed] == ["KEEP"]
    page = stub.ListRevisions(revision_pb2.ListRevisionsRequest(page_size=1), timeout=TIMEOUT_S)
    assert page.revisions[0].cause == revision_pb2.REVISION_CAUSE_ROLLBACK
    assert (page.revisions[0].message, page.revisions[0].tool) == ("because", "test 1")
    assert page.revisions[0].peer.startswith("ipv4:127.0.0.1:")
    assert page.next_page_token


def test_origins_come_on_request_in_the_order_of_the_contract(
    embedded_server: PandawnServer,
) -> None:
    stub = stub_of(embedded_server)
    revision = apply(stub, change("S", SITE, cores=2), change("A", site="S")).revision
    plain = stub.GetQueue(queue_pb2.GetQueueRequest(name="A"), timeout=TIMEOUT_S)
    assert not plain.origins
    asked = stub.GetQueue(queue_pb2.GetQueueRequest(name="A", with_origins=True), timeout=TIMEOUT_S)
    assert asked.queue == plain.queue
    origin = {o.parameter: o for o in asked.origins}
    assert (origin["cores"].level, origin["cores"].name) == (queue_pb2.LEVEL_SITE, "S")
    assert (origin["cores"].revision, origin["cores"].message) == (revision, "because")
    assert origin["comment"].level == queue_pb2.LEVEL_DEFAULT
    assert all(plain.queue.parameters.HasField(o.parameter) for o in asked.origins)  # type: ignore[arg-type]


def test_a_pilot_learns_the_revision_of_its_queue_and_the_job_records_it(
    server: PandawnServer,
) -> None:
    channel = server.channel()
    apply(stub_of(server), change("A", storage_root="file:///storage", cores=2))
    dispatcher = dispatcher_pb2_grpc.DispatcherStub(channel)
    broker = broker_pb2_grpc.BrokerStub(channel)
    pilot = dispatcher.RegisterPilot(
        pilot_pb2.RegisterPilotRequest(
            request_id="p", queue="A", node="wn01.example.org", transports=["file"]
        ),
        timeout=TIMEOUT_S,
    )
    spec = task_pb2.TaskSpec(user="anna", dataset="d", command=["true"], job_count=1, test=True)
    task = broker.SubmitTask(
        broker_pb2.SubmitTaskRequest(request_id="t", task=spec), timeout=TIMEOUT_S
    ).task
    assert task.test
    answer = dispatcher.AcquireJobs(
        dispatcher_pb2.AcquireJobsRequest(pilot_id=pilot.pilot_id, request_id="r", max_jobs=1),
        timeout=TIMEOUT_S,
    )
    (lease,) = answer.leases
    assert lease.job.queue_revision == answer.queue_revision == pilot.queue.revision > 0
    newer = apply(stub_of(server), change("A", storage_root="file:///storage", cores=4)).revision
    beat = dispatcher.RenewLeases(
        dispatcher_pb2.RenewLeasesRequest(pilot_id=pilot.pilot_id), timeout=TIMEOUT_S
    )
    assert (beat.queue_revision, beat.drain) == (newer, False)
    job = broker.GetJob(broker_pb2.GetJobRequest(job_id=lease.job.job_id), timeout=TIMEOUT_S)
    assert [a.queue_revision for a in job.attempts] == [pilot.queue.revision]
