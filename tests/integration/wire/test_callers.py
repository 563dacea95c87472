"""From the caller's credential to the line in the audit, through all of the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from sqlalchemy import text

from pandawn.broker.v1 import broker_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, pins_pb2
from pandawn.monitor.v1 import audit_pb2, monitor_pb2
from pandawn.queueconfig.v1 import (
    access_pb2,
    document_pb2,
    override_pb2,
    parameters_pb2,
    revision_pb2,
)
from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.tasks.tasks import TaskSpec, spec_violations
from pandawn_server.storage.access import audit as audit_storage
from pandawn_server.storage.database import Database
from pandawn_server.wire.edge.auditing import Auditor
from tests.fixtures.callers import Callers, Stubs
from tests.fixtures.config import queue_request
from tests.fixtures.factories import QUEUE, SITE

pytestmark = pytest.mark.usefixtures("callers")


async def configure(callers: Callers) -> None:
    async with callers.of("olga") as olga:
        request = queue_request(QUEUE, site=SITE, storage_root="file:///storage")
        await olga.queues.ApplyConfig(request)


async def submit(stubs: Stubs, dataset: str = "d", **more: Any) -> task_pb2.Task:
    spec = task_pb2.TaskSpec(
        dataset=dataset, queue=QUEUE, command=["true"], **{"job_count": 1, **more}
    )
    request = broker_pb2.SubmitTaskRequest(request_id=f"r-{dataset}", task=spec)
    return (await stubs.broker.SubmitTask(request)).task


async def refusal(call: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, str(dict(caught.value.trailing_metadata())["pandawn-reason"])


async def lines(callers: Callers, by: str = "olga", **wanted: Any) -> list[audit_pb2.AuditRecord]:
    await asyncio.to_thread(callers.auditor.flush)
    async with callers.of(by) as stubs:
        reply = await stubs.monitor.ListAudit(audit_pb2.ListAuditRequest(**wanted))
    return list(reply.records)


async def test_a_submission_is_its_caller_s_and_in_the_audit_when_it_is_answered(
    callers: Callers,
) -> None:
    await configure(callers)
    async with callers.of("anna") as anna:
        task = await submit(anna)
    assert task.user == "anna"
    (line,) = await lines(callers, rpc="SubmitTask")
    assert (line.user, line.method, line.rule) == ("anna", "token", "tokens of the tests")
    assert line.subject == "https://iam.example.org#anna"
    assert (line.peer, line.rpc, line.code) == ("127.0.0.1", "Broker.SubmitTask", "OK")
    assert (line.task_id, line.queue, line.site) == (task.task_id, QUEUE, SITE)
    assert line.request_id == "r-d"


async def test_each_kind_of_change_says_what_it_was_about(callers: Callers) -> None:
    await configure(callers)
    async with callers.of("rosa") as rosa, callers.of("anna") as anna:
        task = await submit(anna)
        await anna.broker.CancelJob(broker_pb2.CancelJobRequest(job_id=1))
        await anna.broker.RetryTask(
            broker_pb2.RetryTaskRequest(task_id=task.task_id, request_id="again")
        )
        await rosa.broker.CancelTask(broker_pb2.CancelTaskRequest(task_id=task.task_id))
        await rosa.catalog.PinFiles(
            pins_pb2.PinFilesRequest(
                site=SITE, node="wn01", files=[common_pb2.File(lfn="a", size_bytes=1)]
            )
        )
        entry = access_pb2.AccessEntry(
            queue=QUEUE,
            kind=access_pb2.SUBJECT_KIND_USER,
            subject="ben",
            effect=access_pb2.ACCESS_EFFECT_DENY,
        )
        await rosa.queues.GrantAccess(access_pb2.GrantAccessRequest(entry=entry))

        async def code() -> Any:
            yield broker_pb2.UploadSandboxRequest(chunk=b"\x1f\x8bcode")

        # Metadata of streams is not the interceptor's business there.
        upload = anna.broker.UploadSandbox(code(), metadata=(("authorization", "anna"),))
        sandbox = (await upload).sandbox_id
    found = {line.rpc: line for line in await lines(callers)}
    assert (found["Broker.CancelJob"].job_id, found["Broker.CancelJob"].queue) == (1, QUEUE)
    assert found["Broker.RetryTask"].task_id == task.task_id
    assert found["Broker.CancelTask"].user == "rosa"
    assert (found["FileCatalog.PinFiles"].site, found["FileCatalog.PinFiles"].node) == (
        SITE,
        "wn01",
    )
    assert found["QueueConfig.GrantAccess"].thing == "entry ben"
    assert found["QueueConfig.ApplyConfig"].queue == QUEUE
    assert found["Broker.UploadSandbox"].thing == f"sandbox {sandbox}"


async def test_what_people_write_into_the_catalog_is_audited(callers: Callers) -> None:
    await configure(callers)
    request = filecatalog_pb2.AddFilesRequest(
        site=SITE, node="wn01", files=[common_pb2.File(lfn="a", size_bytes=1)]
    )
    async with callers.of("rosa") as rosa, callers.of("otto") as otto:
        await rosa.catalog.AddFiles(request)
        assert (await refusal(otto.catalog.AddFiles(request)))[0] == "PERMISSION_DENIED"
    found = await lines(callers, rpc="AddFiles")
    assert [(line.user, line.code, line.site, line.node) for line in found] == [
        ("otto", "PERMISSION_DENIED", SITE, "wn01"),
        ("rosa", "OK", SITE, "wn01"),
    ]


async def test_what_is_not_one_s_own_is_refused_with_a_reason_and_audited(
    callers: Callers,
) -> None:
    await configure(callers)
    async with callers.of("anna") as anna:
        await submit(anna)
    get = broker_pb2.GetTaskRequest(task_id=1)
    async with callers.of("ben") as ben, callers.of("mona") as mona, callers.of("") as nobody:
        assert await refusal(ben.broker.GetTask(get)) == ("PERMISSION_DENIED", "NOT_YOUR_TASK")
        await mona.broker.GetTask(get)
        cancel = broker_pb2.CancelTaskRequest(task_id=1)
        assert await refusal(mona.broker.CancelTask(cancel)) == (
            "PERMISSION_DENIED",
            "ROLE_MISSING",
        )
        assert (await refusal(nobody.broker.GetTask(get)))[0] == "UNAUTHENTICATED"
        missing = broker_pb2.CancelTaskRequest(task_id=99)
        assert (await refusal(ben.broker.CancelTask(missing)))[0] == "NOT_FOUND"
    denied = await lines(callers, denied_only=True)
    told = [(line.user, line.rpc, line.reason, line.task_id) for line in reversed(denied)]
    assert told == [
        ("ben", "Broker.GetTask", "NOT_YOUR_TASK", 1),
        ("mona", "Broker.CancelTask", "ROLE_MISSING", 0),
        ("", "Broker.GetTask", "CREDENTIALS_REQUIRED", 0),
    ]
    (failed,) = await lines(callers, user="ben", rpc="Broker.CancelTask")
    assert (failed.code, failed.reason, failed.task_id) == ("NOT_FOUND", "TASK_NOT_FOUND", 99)
    assert "there is no task 99" in failed.text


async def test_administrators_read_the_audit_of_their_queues_and_users_none(
    callers: Callers,
) -> None:
    await configure(callers)
    async with callers.of("anna") as anna:
        await submit(anna)
        assert await refusal(anna.monitor.ListAudit(audit_pb2.ListAuditRequest())) == (
            "PERMISSION_DENIED",
            "ROLE_MISSING",
        )
    assert {line.rpc for line in await lines(callers, "rosa")} == {
        "Broker.SubmitTask",
        "QueueConfig.ApplyConfig",
    }
    assert await lines(callers, "otto") == []


async def test_a_method_that_is_not_there_is_no_filter(callers: Callers) -> None:
    async with callers.of("olga") as olga:
        request = audit_pb2.ListAuditRequest(rpc="SubmitTasks")
        assert (await refusal(olga.monitor.ListAudit(request)))[0] == "INVALID_ARGUMENT"


async def test_tokens_of_pages_are_bound_to_the_filter_and_to_who_reads(callers: Callers) -> None:
    await configure(callers)
    async with callers.of("anna") as anna, callers.of("olga") as olga:
        for dataset in ("a", "b"):
            await submit(anna, dataset)
        page = await anna.broker.ListTasks(broker_pb2.ListTasksRequest(page_size=1))
        request = broker_pb2.ListTasksRequest(page_size=1, page_token=page.next_page_token)
        assert len((await anna.broker.ListTasks(request)).tasks) == 1
        assert (await refusal(olga.broker.ListTasks(request)))[1] == "INVALID_PAGE_TOKEN"


async def test_a_flood_of_refusals_is_one_line(callers: Callers) -> None:
    async with callers.of("") as nobody:
        for number in range(50):
            await refusal(nobody.broker.GetTask(broker_pb2.GetTaskRequest(task_id=number)))
    (line,) = await lines(callers, denied_only=True)
    assert line.call_count == 50


async def test_a_change_whose_line_cannot_be_written_is_not_answered_with_success(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(callers)
    insert = audit_storage.insert_records

    def full(*_: object) -> None:
        raise UnavailableError("DATABASE_UNAVAILABLE", "the disk is full")

    async with callers.of("anna") as anna:
        monkeypatch.setattr(audit_storage, "insert_records", full)
        assert (await refusal(submit(anna)))[0] == "UNAVAILABLE"
        monkeypatch.setattr(audit_storage, "insert_records", insert)
        # The same request again: the same task, and its line.
        assert (await submit(anna)).task_id == 1
    assert [line.code for line in await lines(callers, rpc="SubmitTask")] == ["UNAVAILABLE", "OK"]


@contextmanager
def busy(database: Database) -> Iterator[None]:
    """Lets nobody else write tasks."""
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write() as tx:
            if not database.is_embedded:
                tx.execute(text("LOCK TABLE tasks"))
            begun.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(20)
    yield
    done.set()
    thread.join()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


async def test_a_caller_that_goes_away_while_it_is_served_leaves_a_line_all_the_same(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(callers)
    begun, lost = threading.Event(), threading.Event()
    interrupted = Auditor.interrupted

    def looks(spec: TaskSpec) -> Any:
        begun.set()
        return spec_violations(spec)

    def noted(auditor: Auditor, method: str, peer: str, code: str) -> None:
        interrupted(auditor, method, peer, code)
        lost.set()

    # Both only tell the test how far the call is.
    monkeypatch.setattr("pandawn_server.usecases.tasks.submit.spec_violations", looks)
    monkeypatch.setattr(Auditor, "interrupted", noted)
    async with callers.of("anna") as anna:
        with busy(callers.deps.context.db):
            call = asyncio.ensure_future(submit(anna))
            await until(begun.is_set)
            call.cancel()
            await until(lost.is_set)
    async with callers.of("olga") as olga:
        request = monitor_pb2.CountJobsRequest(user="anna")
        async with asyncio.timeout(20):
            while not (await olga.monitor.CountJobs(request)).counts:  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while not (found := await lines(callers, rpc="SubmitTask")):  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.01)
    assert [(line.user, line.code, line.queue) for line in found] == [("anna", "CANCELLED", QUEUE)]


async def test_a_queue_s_configuration_is_its_site_s(callers: Callers) -> None:
    await configure(callers)
    override = override_pb2.SetOverrideRequest(
        request_id="o", queue=QUEUE, parameters=parameters_pb2.QueueParameters(cores=4)
    )
    override.duration.FromSeconds(3600)
    change = document_pb2.DocumentChange(
        kind=document_pb2.DOCUMENT_KIND_QUEUE,
        name=QUEUE,
        parameters=parameters_pb2.QueueParameters(site=SITE, cores=8),
    )
    calls: list[Callable[[Stubs], Awaitable[object]]] = [
        lambda s: s.queues.ApplyConfig(queue_request(QUEUE, cores=4)),
        lambda s: s.queues.SetOverride(override),
        lambda s: s.queues.ClearOverride(override_pb2.ClearOverrideRequest(queue=QUEUE)),
        lambda s: s.queues.ApplyConfig(document_pb2.ApplyConfigRequest(changes=[change])),
        lambda s: s.queues.Rollback(revision_pb2.RollbackRequest(revision=1)),
    ]
    async with callers.of("otto") as otto, callers.of("rosa") as rosa, callers.of("anna") as anna:
        for call in calls:
            assert await refusal(call(otto)) == ("PERMISSION_DENIED", "SITE_ADMIN_REQUIRED")
            assert await refusal(call(anna)) == ("PERMISSION_DENIED", "ROLE_MISSING")
            await call(rosa)
