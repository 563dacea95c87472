"""What a plain caller may not do or see, though it was let in, through all of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from pandawn.broker.v1 import broker_pb2
from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, lookup_pb2
from pandawn.queueconfig.v1 import access_pb2, document_pb2, parameters_pb2, queue_pb2, revision_pb2
from pandawn_server.usecases.tasks import sandboxes
from tests.fixtures.callers import Callers
from tests.fixtures.config import queue_request
from tests.fixtures.factories import QUEUE, SITE
from tests.integration.wire.test_callers import configure, refusal, submit

GZIP = b"\x1f\x8b"
SECRET = {"DB_PASSWORD": "hunter2"}


def shown(name: str) -> tuple[tuple[str, str], ...]:
    """What the stubs show by themselves for calls with one request and one answer only."""
    return (("authorization", name),)


async def give_environment(callers: Callers) -> None:
    async with callers.of("olga") as olga:
        request = queue_request(
            QUEUE,
            environment=parameters_pb2.StringMap(values=SECRET),
            setup_command="/site/setup --key=s3cret",
            etag=(await olga.queues.GetQueue(queue_pb2.GetQueueRequest(name=QUEUE))).queue.etag,
        )
        await olga.queues.ApplyConfig(request)


async def test_a_plain_user_orders_jobs_of_his_own_and_no_more(callers: Callers) -> None:
    await configure(callers)
    async with callers.of("anna") as anna, callers.of("olga") as olga, callers.of("rosa") as rosa:
        assert (await submit(anna, "most", priority=99)).priority == 99
        assert (await submit(anna, "least", priority=-10_000)).priority == -10_000
        assert await refusal(submit(anna, "more", priority=100)) == (
            "PERMISSION_DENIED",
            "PRIORITY_NOT_GRANTED",
        )
        # Those who run the site say what is urgent, and grant it.
        assert (await submit(rosa, "urgent", priority=5_000)).priority == 5_000
        entry = access_pb2.AccessEntry(
            queue=QUEUE,
            kind=access_pb2.SUBJECT_KIND_USER,
            subject="anna",
            effect=access_pb2.ACCESS_EFFECT_ALLOW,
            priority_offset=500,
        )
        await olga.queues.GrantAccess(access_pb2.GrantAccessRequest(entry=entry))
        assert (await submit(anna, "granted", priority=99)).priority == 599


async def test_sandboxes_of_a_user_have_a_bound_and_known_ones_cost_nothing(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "MAX_BYTES_OF_A_USER", 100)

    async def upload(name: str, content: bytes) -> str:
        async with callers.of(name) as stubs:
            request = broker_pb2.UploadSandboxRequest(chunk=GZIP + content)
            reply = await stubs.broker.UploadSandbox(iter([request]), metadata=shown(name))
            return str(reply.sandbox_id)

    first = await upload("anna", b"a" * 60)
    assert await refusal(upload("anna", b"b" * 60)) == ("RESOURCE_EXHAUSTED", "SANDBOX_QUOTA")
    assert await upload("anna", b"a" * 60) == first
    assert await upload("ben", b"b" * 60)


async def test_what_a_queue_gives_to_payloads_is_for_those_who_run_the_site(
    callers: Callers,
) -> None:
    await configure(callers)
    await give_environment(callers)
    get = queue_pb2.GetQueueRequest(name=QUEUE)
    origins = queue_pb2.GetQueueRequest(name=QUEUE, with_origins=True)
    for name, sees in (("anna", False), ("rosa", True), ("olga", True), ("mona", True)):
        async with callers.of(name) as stubs:
            listed = await stubs.queues.ListQueues(queue_pb2.ListQueuesRequest())
            watched = stubs.queues.WatchQueue(
                queue_pb2.WatchQueueRequest(name=QUEUE), metadata=shown(name)
            )
            found = [
                (await stubs.queues.GetQueue(get)).queue,
                (await stubs.queues.GetQueue(origins)).queue,
                *listed.queues,
                (await anext(aiter(watched))).queue,
            ]
            watched.cancel()
            assert len(found) == 4
            for queue in found:
                assert (dict(queue.parameters.environment.values) == SECRET) is sees, name
                assert bool(queue.parameters.setup_command) is sees, name
                assert queue.parameters.storage_root == "file:///storage"
    async with callers.of("anna") as anna:
        for stream in (
            anna.queues.ExportConfig(document_pb2.ExportConfigRequest(), metadata=shown("anna")),
            anna.queues.DiffRevisions(revision_pb2.DiffRevisionsRequest(), metadata=shown("anna")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(aiter(stream))
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_pilots_machines_and_files_of_nodes_are_for_those_who_run_the_site(
    callers: Callers,
) -> None:
    await configure(callers)
    async with callers.of("rosa") as rosa:
        files = [common_pb2.File(lfn="secret-name", size_bytes=1)]
        await rosa.catalog.AddFiles(
            filecatalog_pb2.AddFilesRequest(site=SITE, node="wn01", files=files)
        )
    listing = lookup_pb2.ListNodeFilesRequest(site=SITE, node="wn01")
    async with callers.of("anna") as anna, callers.of("mona") as mona:
        assert (await refusal(anna.catalog.ListNodeFiles(listing)))[0] == "PERMISSION_DENIED"
        assert [held.file.lfn for held in (await mona.catalog.ListNodeFiles(listing)).files] == [
            "secret-name"
        ]


async def test_an_inventory_of_a_node_that_is_not_the_caller_s_is_refused_at_its_header(
    callers: Callers,
) -> None:
    await configure(callers)
    read = 0

    async def requests() -> AsyncIterator[filecatalog_pb2.ReportInventoryRequest]:
        nonlocal read
        header = filecatalog_pb2.InventoryHeader(site=SITE, node="wn01")
        yield filecatalog_pb2.ReportInventoryRequest(header=header)
        while True:
            read += 1
            files = [common_pb2.File(lfn=f"f{read}-{n}", size_bytes=1) for n in range(1000)]
            yield filecatalog_pb2.ReportInventoryRequest(files=files)

    async with callers.of("otto") as otto:
        assert await refusal(otto.catalog.ReportInventory(requests(), metadata=shown("otto"))) == (
            "PERMISSION_DENIED",
            "NOT_YOUR_NODE",
        )
    assert read < 1000
