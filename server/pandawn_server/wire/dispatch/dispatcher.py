"""The Dispatcher service, which pilots call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from functools import partial

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import (
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    pilot_pb2,
    report_pb2,
    sandbox_pb2,
)
from pandawn_server.domain.access.pilot_rights import acting_session, check_own_pilot
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.errors import PandawnError, UnavailableError
from pandawn_server.usecases.access.sessions import renew_session
from pandawn_server.usecases.dispatch.desks import AcquireCall
from pandawn_server.usecases.dispatch.round import AcquireAnswer
from pandawn_server.usecases.leases.holders import check_speaks_for
from pandawn_server.usecases.leases.pilots import (
    Registration,
    deregister_pilot,
    register_pilot,
)
from pandawn_server.usecases.leases.renew import Heartbeat, HeartbeatAnswer, renew_leases
from pandawn_server.usecases.leases.report import (
    LeaseRef,
    Report,
    Reported,
    release_jobs,
    report_jobs,
)
from pandawn_server.usecases.tasks.sandboxes import check_may_read, read_chunk
from pandawn_server.usecases.tasks.submit import sandbox_not_found
from pandawn_server.wire.auth.host import host_facts
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.dispatch import convert
from pandawn_server.wire.edge.batcher import Batcher
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.deadline import time_to_wait
from pandawn_server.wire.edge.enums import JOB_STATE
from pandawn_server.wire.edge.errors import item_status
from pandawn_server.wire.edge.gather import in_one
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import from_requirements, to_duration
from pandawn_server.wire.queues.convert import to_queue

MAX_WAIT = timedelta(seconds=60)
"""Maximum long poll: below the time after which proxies between pilots and servers usually close a call."""

SHORTEST_LEASE = timedelta(seconds=1)
"""Minimum lease that a pilot may ask for: a shorter one would expire between two heartbeats."""

LONGEST_LEASE = timedelta(days=1)
"""Maximum lease that a pilot may ask for; its queue may give less."""


class DispatcherServicer(dispatcher_pb2_grpc.DispatcherServicer):
    """See `pandawn/dispatcher/v1/dispatcher.proto`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        make = deps.batchers.make
        self._renew: Batcher[Heartbeat, HeartbeatAnswer] = make(
            "RenewLeases", partial(renew_leases, deps.context)
        )
        self._report: Batcher[list[Report], list[Reported | PandawnError]] = make(
            "ReportJobs", lambda calls: in_one(calls, partial(report_jobs, deps.context))
        )
        self._release: Batcher[list[LeaseRef], list[Reported | PandawnError]] = make(
            "ReleaseJobs", lambda calls: in_one(calls, partial(release_jobs, deps.context))
        )
        deps.polls.on_unclaimed = self._give_back

    async def RegisterPilot(
        self, request: pilot_pb2.RegisterPilotRequest, _context: ServicerContext
    ) -> pilot_pb2.RegisterPilotResponse:
        """Registers a pilot and starts its session."""
        check = Checker()
        check.identifier("request_id", request.request_id)
        check.queue("queue", request.queue)
        node = check.host("node", request.node)
        check.text("host", request.host, max_bytes=255)
        check.text("pilot_version", request.pilot_version, max_bytes=64)
        check.text("batch_id", request.batch_id, max_bytes=255)
        check.text("node_key", request.node_key, max_bytes=255)
        check.count("transports", request.transports, 0, 20)
        for position, transport in enumerate(request.transports):
            check.name(("transports", position), transport)
        check.done()
        by = caller()
        facts = await host_facts(self._deps, request.queue, by)
        registered = await self._deps.runner.run(
            register_pilot,
            self._deps.context,
            Registration(
                request_id=request.request_id,
                queue=request.queue,
                node=node,
                host=request.host,
                pilot_version=request.pilot_version,
                batch_id=request.batch_id,
                transports=tuple(request.transports),
                node_key=request.node_key,
            ),
            by,
            facts,
        )
        queue = registered.queue
        return pilot_pb2.RegisterPilotResponse(
            pilot_id=registered.pilot.pilot_id,
            queue=to_queue(queue),
            heartbeat_interval=to_duration(queue.heartbeat_interval),
            session_token=registered.session_token,
            session_life=to_duration(self._deps.context.sessions.life),
        )

    async def DeregisterPilot(
        self, request: pilot_pb2.DeregisterPilotRequest, _context: ServicerContext
    ) -> pilot_pb2.DeregisterPilotResponse:
        """Deregisters a pilot."""
        check = Checker()
        check.identifier("pilot_id", request.pilot_id)
        check.text("reason", request.reason)
        check.done()
        requeued = await self._deps.runner.run(
            deregister_pilot, self._deps.context, request.pilot_id, request.reason, caller()
        )
        return pilot_pb2.DeregisterPilotResponse(requeued_count=requeued)

    async def AcquireJobs(
        self, request: dispatcher_pb2.AcquireJobsRequest, context: ServicerContext
    ) -> dispatcher_pb2.AcquireJobsResponse:
        """Leases jobs; waits for some if there are none."""
        check = Checker()
        check.identifier("pilot_id", request.pilot_id)
        check.identifier("request_id", request.request_id)
        check.range("max_jobs", request.max_jobs, 1, 100)
        wait = time_to_wait(context, check.duration("wait", request.wait, maximum=MAX_WAIT))
        call = AcquireCall(
            pilot_id=request.pilot_id,
            request_id=request.request_id,
            max_jobs=request.max_jobs,
            offer=from_requirements(check, "offer", request.offer),
            cache=convert.from_cache(check, request) if request.HasField("cache") else None,
            waits=wait > timedelta(0),
        )
        check.done()
        by = caller()
        check_own_pilot(by, request.pilot_id)
        answer = await self._deps.polls.acquire(call, wait)
        response = convert.to_acquired(answer, self._deps.shutting_down.is_set())
        response.session_token = await self._fresh_token(by)
        return response

    async def RenewLeases(
        self, request: dispatcher_pb2.RenewLeasesRequest, _context: ServicerContext
    ) -> dispatcher_pb2.RenewLeasesResponse:
        """Processes a heartbeat: renews leases and compares the state of the cache."""
        check = Checker()
        check.identifier("pilot_id", request.pilot_id)
        check.count("renewals", request.renewals, 0, 1000)
        by = caller()
        heartbeat = Heartbeat(
            pilot_id=request.pilot_id,
            renewals=tuple(convert.from_renewals(check, request.renewals)),
            cache=convert.from_cache(check, request) if request.HasField("cache") else None,
            session=by.session,
            longest=check.duration(
                "lease_duration",
                request.lease_duration,
                minimum=SHORTEST_LEASE,
                maximum=LONGEST_LEASE,
            )
            if request.HasField("lease_duration")
            else None,
        )
        check.done()
        check_own_pilot(by, request.pilot_id)
        response = convert.to_heartbeat_answer(await self._renew.submit(heartbeat))
        response.session_token = await self._fresh_token(by)
        return response

    async def ReportJobs(
        self, request: report_pb2.ReportJobsRequest, _context: ServicerContext
    ) -> report_pb2.ReportJobsResponse:
        """Processes reports of ended attempts."""
        check = Checker()
        check.identifier("pilot_id", request.pilot_id)
        check.count("reports", request.reports, 1, 100)
        by = caller()
        session = acting_session(by)
        reports = [
            convert.from_report(check, ("reports", position), report, session)
            for position, report in enumerate(request.reports)
        ]
        check.done()
        await self._check_speaks_for(by, request.pilot_id)
        answers = await self._report.submit(reports)
        return report_pb2.ReportJobsResponse(results=map(_to_result, answers))

    async def ReleaseJobs(
        self, request: dispatcher_pb2.ReleaseJobsRequest, _context: ServicerContext
    ) -> dispatcher_pb2.ReleaseJobsResponse:
        """Takes back jobs that a pilot does not start."""
        check = Checker()
        check.identifier("pilot_id", request.pilot_id)
        check.count("leases", request.leases, 1, 100)
        by = caller()
        session = acting_session(by)
        refs = [
            convert.from_lease_ref(check, ("leases", position), ref, session)
            for position, ref in enumerate(request.leases)
        ]
        check.done()
        await self._check_speaks_for(by, request.pilot_id)
        answers = await self._release.submit(refs)
        return dispatcher_pb2.ReleaseJobsResponse(
            statuses=[item_status(a if isinstance(a, PandawnError) else None) for a in answers]
        )

    async def DownloadSandbox(
        self, request: sandbox_pb2.DownloadSandboxRequest, _context: ServicerContext
    ) -> AsyncGenerator[sandbox_pb2.DownloadSandboxResponse, None]:
        """Streams a sandbox."""
        check = Checker()
        check.sandbox_id("sandbox_id", request.sandbox_id)
        check.done()
        await self._deps.runner.run(
            check_may_read, self._deps.context, request.sandbox_id, caller()
        )
        position = 0
        while True:
            chunk = await self._deps.runner.run(
                read_chunk, self._deps.context, request.sandbox_id, position
            )
            if chunk is None:
                break
            yield sandbox_pb2.DownloadSandboxResponse(chunk=chunk)
            position += 1
        if not position:
            raise sandbox_not_found(request.sandbox_id)

    async def _give_back(self, unclaimed: Sequence[AcquireAnswer]) -> None:
        refs = [
            LeaseRef(grant.job.job_id, grant.attempt, grant.token, session=None)
            for answer in unclaimed
            for grant in answer.grants
        ]
        await self._release.submit(refs)

    async def _check_speaks_for(self, by: Principal, pilot_id: str) -> None:
        # Nearly always its own; only others need the database.
        if by.session is not None and by.session.pilot_id != pilot_id:
            await self._deps.runner.run(check_speaks_for, self._deps.context, by, pilot_id)

    async def _fresh_token(self, by: Principal) -> str:
        context = self._deps.context
        if not context.sessions.is_half_over(by, context.clock()):
            return ""
        try:
            return await self._deps.runner.run(renew_session, context, by)
        except UnavailableError:
            # The answer itself is valid and may hold jobs; the next call retries.
            return ""


def _to_result(answer: Reported | PandawnError) -> report_pb2.ReportResult:
    if isinstance(answer, PandawnError):
        return report_pb2.ReportResult(status=item_status(answer))
    return report_pb2.ReportResult(
        status=common_pb2.ItemStatus(), state=JOB_STATE.to_wire(answer.state)
    )
