"""The Broker service, which users call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc
from pandawn_server.domain.access.reach import may_see
from pandawn_server.domain.tasks.jobs import JobFilter
from pandawn_server.usecases.dispatch.explain_job import explain_job
from pandawn_server.usecases.tasks import cancel, read, retry
from pandawn_server.usecases.tasks.sandboxes import (
    MAX_SANDBOX_BYTES,
    sandbox_too_large,
    store_sandbox,
)
from pandawn_server.usecases.tasks.submit import submit_task
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.bounds import count_work
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.enums import JOB_STATE
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.page_token import decode_page_token, encode_page_token
from pandawn_server.wire.edge.pages import page_of
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import digest_of
from pandawn_server.wire.tasks.callers import to_caller
from pandawn_server.wire.tasks.convert import (
    from_labels,
    from_spec,
    to_explanation,
    to_job,
    to_job_view,
    to_task,
)
from pandawn_server.wire.tasks.large import HeldInputs, LargeTask

MAX_STATES = 100
"""Maximum number of states in a filter; far fewer exist."""

MAX_CHUNK_BYTES = 1024**2
"""Maximum size of one chunk of a sandbox; chunks are stored as received."""


class BrokerServicer(broker_pb2_grpc.BrokerServicer):
    """See `pandawn/broker/v1/broker.proto`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._held = HeldInputs()

    async def WhoAmI(
        self, request: broker_pb2.WhoAmIRequest, context: ServicerContext
    ) -> broker_pb2.WhoAmIResponse:
        """Returns the caller's identity."""
        del request, context
        return broker_pb2.WhoAmIResponse(caller=to_caller(caller()))

    async def UploadSandbox(
        self,
        request_iterator: AsyncIterator[broker_pb2.UploadSandboxRequest],
        _context: ServicerContext,
    ) -> broker_pb2.UploadSandboxResponse:
        """Stores the user's code."""
        chunks: list[bytes] = []
        size = 0
        async for request in request_iterator:
            if len(request.chunk) > MAX_CHUNK_BYTES:
                check = Checker()
                check.add(
                    ("chunk",),
                    f"has {len(request.chunk):,} bytes; the limit is {MAX_CHUNK_BYTES:,} per message",
                )
                check.done()
            size += len(request.chunk)
            if size > MAX_SANDBOX_BYTES:
                raise sandbox_too_large()
            if request.chunk:
                chunks.append(request.chunk)
        sandbox_id, size = await self._deps.runner.run(
            store_sandbox, self._deps.context, chunks, caller()
        )
        return broker_pb2.UploadSandboxResponse(sandbox_id=sandbox_id, size_bytes=size)

    async def SubmitTask(
        self, request: broker_pb2.SubmitTaskRequest, _context: ServicerContext
    ) -> broker_pb2.SubmitTaskResponse:
        """Submits a task."""
        begin_s = time.monotonic()
        check = Checker()
        check.identifier("request_id", request.request_id)
        spec = from_spec(check, request.task)
        count_work(time.monotonic() - begin_s)
        check.done()
        view = await self._deps.runner.run(
            submit_task,
            self._deps.context,
            request.request_id,
            digest_of(request.task),
            spec,
            caller(),
        )
        return broker_pb2.SubmitTaskResponse(task=to_task(view))

    async def SubmitLargeTask(
        self,
        request_iterator: AsyncIterator[broker_pb2.SubmitLargeTaskRequest],
        _context: ServicerContext,
    ) -> broker_pb2.SubmitLargeTaskResponse:
        """Submits a task whose inputs come in many messages."""
        with LargeTask(self._held, caller().name) as task:
            request_id, fingerprint, spec = await task.read(request_iterator)
            view = await self._deps.runner.run(
                submit_task, self._deps.context, request_id, fingerprint, spec, caller()
            )
        return broker_pb2.SubmitLargeTaskResponse(task=to_task(view))

    async def GetTask(
        self, request: broker_pb2.GetTaskRequest, _context: ServicerContext
    ) -> broker_pb2.GetTaskResponse:
        """Returns one task."""
        view = await self._deps.runner.run(
            read.get_task, self._deps.context, request.task_id, caller()
        )
        return broker_pb2.GetTaskResponse(task=to_task(view))

    async def ListTasks(
        self, request: broker_pb2.ListTasksRequest, _context: ServicerContext
    ) -> broker_pb2.ListTasksResponse:
        """Lists tasks, newest first."""
        check = Checker()
        check.user("user", request.user, required=False)
        labels = from_labels(check, "labels", request.labels)
        size = check.page_size(request.page_size)
        check.done()
        by = caller()
        filters = (request.user, *_flat(labels), *may_see(by).key)
        key = decode_page_token(request.page_token, "ListTasks", filters, (int,))
        views = await self._deps.runner.run(
            read.list_tasks,
            self._deps.context,
            int(key[0]) if key else None,
            size + 1,
            request.user,
            labels,
            by,
        )
        page, ends = page_of(views, size, to_task)
        token = ""
        for last in ends:
            token = encode_page_token("ListTasks", filters, (last.task.task_id,))
        return broker_pb2.ListTasksResponse(tasks=page, next_page_token=token)

    async def GetJob(
        self, request: broker_pb2.GetJobRequest, _context: ServicerContext
    ) -> broker_pb2.GetJobResponse:
        """Returns one job."""
        view = await self._deps.runner.run(
            read.get_job, self._deps.context, request.job_id, caller()
        )
        return to_job_view(view)

    async def ListJobs(
        self, request: broker_pb2.ListJobsRequest, _context: ServicerContext
    ) -> broker_pb2.ListJobsResponse:
        """Lists jobs by identifier."""
        check = Checker()
        check.size("task_id", request.task_id)
        check.user("user", request.user, required=False)
        check.queue("queue", request.queue, required=False)
        node = check.host("node", request.node, required=False)
        labels = from_labels(check, "labels", request.labels)
        size = check.page_size(request.page_size)
        check.count("states", request.states, 0, MAX_STATES)
        states = sorted(set(request.states))
        for position, number in enumerate(request.states):
            check.require(
                JOB_STATE.to_domain(number) is not None, ("states", position), "is not a job state"
            )
        check.done()
        wanted = JobFilter(
            task_id=request.task_id,
            states=tuple(s for n in states if (s := JOB_STATE.to_domain(n)) is not None),
            user=request.user,
            queue=request.queue,
            node=node,
            newest_first=request.newest_first,
            labels=labels,
        )
        by = caller()
        filters: list[int | str | bool] = [
            request.task_id,
            *map(int, states),
            request.user,
            request.queue,
            node,
            request.newest_first,
            *_flat(labels),
            *may_see(by).key,
        ]
        key = decode_page_token(request.page_token, "ListJobs", filters, (int,))
        jobs = await self._deps.runner.run(
            read.list_jobs,
            self._deps.context,
            int(key[0]) if key else 0,
            size + 1,
            wanted,
            by,
        )
        page, ends = page_of(jobs, size, to_job)
        token = ""
        for last in ends:
            token = encode_page_token("ListJobs", filters, (last.job_id,))
        return broker_pb2.ListJobsResponse(jobs=page, next_page_token=token)

    async def CancelTask(
        self, request: broker_pb2.CancelTaskRequest, _context: ServicerContext
    ) -> broker_pb2.CancelTaskResponse:
        """Cancels a task."""
        done = await self._deps.runner.run(
            cancel.cancel_task, self._deps.context, request.task_id, caller()
        )
        return broker_pb2.CancelTaskResponse(
            task=to_task(done.view), cancelled_count=done.cancelled, pending_count=done.pending
        )

    async def CancelJob(
        self, request: broker_pb2.CancelJobRequest, _context: ServicerContext
    ) -> broker_pb2.CancelJobResponse:
        """Cancels a job."""
        job = await self._deps.runner.run(
            cancel.cancel_job, self._deps.context, request.job_id, caller()
        )
        return broker_pb2.CancelJobResponse(job=to_job(job))

    async def RetryTask(
        self, request: broker_pb2.RetryTaskRequest, _context: ServicerContext
    ) -> broker_pb2.RetryTaskResponse:
        """Retries the failed jobs of a task."""
        check = Checker()
        check.identifier("request_id", request.request_id)
        check.done()
        view, job_ids = await self._deps.runner.run(
            retry.retry_task, self._deps.context, request.request_id, request.task_id, caller()
        )
        return broker_pb2.RetryTaskResponse(task=to_task(view), job_ids=job_ids)

    async def RetryJob(
        self, request: broker_pb2.RetryJobRequest, _context: ServicerContext
    ) -> broker_pb2.RetryJobResponse:
        """Retries a failed job."""
        check = Checker()
        check.identifier("request_id", request.request_id)
        check.done()
        job = await self._deps.runner.run(
            retry.retry_job, self._deps.context, request.request_id, request.job_id, caller()
        )
        return broker_pb2.RetryJobResponse(job=to_job(job))

    async def ExplainJob(
        self, request: broker_pb2.ExplainJobRequest, _context: ServicerContext
    ) -> broker_pb2.ExplainJobResponse:
        """Explains why a job is not running, or why it ran where it did."""
        explanation = await self._deps.runner.run(
            explain_job, self._deps.context, request.job_id, caller()
        )
        return to_explanation(explanation)


def _flat(labels: Mapping[str, str]) -> list[str]:
    return [text for label in sorted(labels.items()) for text in label]
