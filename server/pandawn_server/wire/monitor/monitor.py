"""The Monitor service: counts, pilots, nodes, audit and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from functools import partial

from pandawn.common.v1 import common_pb2
from pandawn.monitor.v1 import audit_pb2, monitor_pb2, monitor_pb2_grpc
from pandawn_server.domain.access.audit import AuditFilter
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.access.reach import may_change, may_see, sees_inside
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.leases.nodes import Condition
from pandawn_server.domain.leases.pilots import Pilot, PilotFilter
from pandawn_server.domain.monitor.events import NumberedEvent
from pandawn_server.domain.tasks.jobs import JobCount
from pandawn_server.usecases.access.audit import list_audit
from pandawn_server.usecases.monitor import read
from pandawn_server.usecases.monitor.event_horizon import LOOK_INTERVAL_S, EventHorizon
from pandawn_server.usecases.monitor.read import NodeView
from pandawn_server.wire.catalog.convert import to_cache
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.auditing import short_name
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.enums import JOB_STATE, NODE_CONDITION, PILOT_STATE
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.page_token import FilterPart, decode_page_token, encode_page_token
from pandawn_server.wire.edge.pages import page_of
from pandawn_server.wire.edge.policies import POLICIES
from pandawn_server.wire.edge.validation import MAX_PAGE_SIZE, Checker
from pandawn_server.wire.edge.values import to_timestamp
from pandawn_server.wire.monitor.audit import to_line

EVENTS_A_MESSAGE = 500
"""The largest number of events in one message of a stream."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class MonitorServicer(monitor_pb2_grpc.MonitorServicer):
    """See `pandawn/monitor/v1/monitor.proto`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._horizon = EventHorizon()

    async def CountJobs(
        self, request: monitor_pb2.CountJobsRequest, _context: ServicerContext
    ) -> monitor_pb2.CountJobsResponse:
        """Counts jobs."""
        check = Checker()
        check.queue("queue", request.queue, required=False)
        check.user("user", request.user, required=False)
        size = check.page_size(request.page_size, default=MAX_PAGE_SIZE)
        check.done()
        by = caller()
        filters = (request.queue, request.user, *may_see(by).key)
        after = decode_page_token(request.page_token, "CountJobs", filters, (str, str, str))
        counts = await self._deps.runner.run(
            read.count_jobs,
            self._deps.context,
            (str(after[0]), str(after[1]), str(after[2])) if after else None,
            request.queue,
            request.user,
            by,
        )
        page, ends = page_of(counts, size, _to_count)
        token = ""
        for last in ends:
            token = encode_page_token("CountJobs", filters, last.key)
        return monitor_pb2.CountJobsResponse(counts=page, next_page_token=token)

    async def ListPilots(
        self, request: monitor_pb2.ListPilotsRequest, _context: ServicerContext
    ) -> monitor_pb2.ListPilotsResponse:
        """Lists pilots, last registered first."""
        check = Checker()
        check.queue("queue", request.queue, required=False)
        size = check.page_size(request.page_size)
        check.done()
        filters = (request.queue, request.include_ended)
        key = decode_page_token(request.page_token, "ListPilots", filters, (int, str))
        found = await self._deps.runner.run(
            read.list_pilots,
            self._deps.context,
            (_EPOCH + int(key[0]) * _MICROSECOND, str(key[1])) if key else None,
            size + 1,
            PilotFilter(request.queue, request.include_ended),
        )
        page, ends = page_of(found, size, partial(_to_pilot, caller()))
        token = ""
        for last, _ in ends:
            moment = (last.register_time - _EPOCH) // _MICROSECOND
            token = encode_page_token("ListPilots", filters, (moment, last.pilot_id))
        return monitor_pb2.ListPilotsResponse(pilots=page, next_page_token=token)

    async def ListNodes(
        self, request: monitor_pb2.ListNodesRequest, _context: ServicerContext
    ) -> monitor_pb2.ListNodesResponse:
        """Lists nodes with their caches."""
        check = Checker()
        check.site("site", request.site, required=False)
        size = check.page_size(request.page_size)
        check.done()
        filters = (request.site,)
        key = decode_page_token(request.page_token, "ListNodes", filters, (str, str))
        found = await self._deps.runner.run(
            read.list_nodes,
            self._deps.context,
            NodeKey(str(key[0]), str(key[1])) if key else None,
            size + 1,
            request.site,
        )
        page, ends = page_of(found, size, _to_node)
        token = ""
        for last in ends:
            token = encode_page_token("ListNodes", filters, last.node.key)
        return monitor_pb2.ListNodesResponse(nodes=page, next_page_token=token)

    async def ListAudit(
        self, request: audit_pb2.ListAuditRequest, _context: ServicerContext
    ) -> audit_pb2.ListAuditResponse:
        """Lists who did what, newest first."""
        check = Checker()
        check.user("user", request.user, required=False)
        check.queue("queue", request.queue, required=False)
        check.size("task_id", request.task_id)
        size = check.page_size(request.page_size)
        rpcs = tuple(name for name in map(short_name, POLICIES) if _is_named(request.rpc, name))
        check.require(
            bool(rpcs), "rpc", "is not a method of this server; use a name like SubmitTask"
        )
        if request.HasField("since_time"):
            check.timestamp("since_time", request.since_time)
        check.done()
        since = request.since_time.ToDatetime(UTC) if request.HasField("since_time") else None
        by = caller()
        filters: list[FilterPart] = [
            *(request.user, request.rpc, request.queue, request.task_id, request.denied_only),
            "" if since is None else since.isoformat(),
            *may_change(by).key,
        ]
        key = decode_page_token(request.page_token, "ListAudit", filters, (int,))
        found = await self._deps.runner.run(
            list_audit,
            self._deps.context,
            int(key[0]) if key else None,
            size + 1,
            AuditFilter(
                user=request.user,
                rpcs=rpcs if request.rpc else (),
                queue=request.queue,
                task_id=request.task_id,
                since=since,
                denied_only=request.denied_only,
            ),
            by,
        )
        page, ends = page_of(found, size, to_line)
        token = ""
        for last in ends:
            token = encode_page_token("ListAudit", filters, (last.audit_id,))
        return audit_pb2.ListAuditResponse(records=page, next_page_token=token)

    async def StreamEvents(
        self, request: monitor_pb2.StreamEventsRequest, _context: ServicerContext
    ) -> AsyncGenerator[monitor_pb2.StreamEventsResponse, None]:
        """Streams past events and, with `follow`, new ones."""
        by = caller()
        check = Checker()
        check.size("after_event_id", request.after_event_id)
        check.size("task_id", request.task_id)
        check.size("job_id", request.job_id)
        check.range("tail", request.tail, 0, 1_000_000)
        check.done()
        run, settled = self._deps.runner.run, self._deps.context
        after = await run(
            read.first_event_to_send,
            settled,
            request.after_event_id,
            request.tail,
            task_id=request.task_id,
            job_id=request.job_id,
            by=by,
        )
        # A stream with `follow` stops at the horizon, or it would miss events that are committed later below it.
        look = self._horizon.look if request.follow else read.last_event_id
        horizon = await run(look, settled)
        while True:
            while after < horizon:
                page = await run(
                    read.read_events,
                    settled,
                    after,
                    horizon,
                    EVENTS_A_MESSAGE,
                    task_id=request.task_id,
                    job_id=request.job_id,
                    by=by,
                )
                after = page.read_to
                rest = page.events
                while rest:
                    sent, _ = page_of(rest, len(rest), _to_event)
                    rest = rest[len(sent) :]
                    yield monitor_pb2.StreamEventsResponse(events=sent)
            if not request.follow:
                return
            if await self._pause():
                raise UnavailableError(
                    "SHUTTING_DOWN",
                    "the server is stopping; continue after the last event on another",
                )
            horizon = await run(look, settled)

    async def _pause(self) -> bool:
        """Waits until the next poll; returns True if the server stops."""
        try:
            async with asyncio.timeout(LOOK_INTERVAL_S):
                await self._deps.shutting_down.wait()
        except TimeoutError:
            return False
        return True


def _is_named(asked: str, name: str) -> bool:
    return asked in {"", name, name.partition(".")[2]}


def _to_count(count: JobCount) -> monitor_pb2.JobCount:
    return monitor_pb2.JobCount(
        queue=count.queue,
        state=JOB_STATE.to_wire(count.state),
        user=count.user,
        count=count.count,
    )


def _to_pilot(by: Principal, found: tuple[Pilot, int]) -> monitor_pb2.Pilot:
    pilot, job_count = found
    message = monitor_pb2.Pilot(
        queue=pilot.queue,
        node=pilot.key.node,
        pilot_version=pilot.pilot_version,
        state=PILOT_STATE.to_wire(pilot.state),
        job_count=job_count,
        register_time=to_timestamp(pilot.register_time),
        contact_time=to_timestamp(pilot.contact_time),
    )
    if sees_inside(by, pilot.key.site):
        message.pilot_id = pilot.pilot_id
        message.host = pilot.host
        message.batch_id = pilot.batch_id
        message.end_reason = pilot.end_reason
    return message


def _to_node(view: NodeView) -> monitor_pb2.Node:
    node = view.node
    return monitor_pb2.Node(
        site=node.key.site,
        name=node.key.node,
        pilot_count=view.use.pilots,
        job_count=view.use.jobs,
        contact_time=to_timestamp(node.contact_time),
        cache=None if view.cache is None else to_cache(view.cache),
        locality=common_pb2.LOCALITY_KNOWN
        if view.catalog_answered
        else common_pb2.LOCALITY_UNKNOWN,
        suspended_until_time=to_timestamp(
            node.until if view.condition is Condition.SUSPENDED else None
        ),
        suspend_reason=node.reason if view.condition is not Condition.OPEN else "",
        condition=NODE_CONDITION.to_wire(view.condition),
        changed_by=node.by,
        change_time=to_timestamp(node.change_time),
        good_probes=node.good_probes,
        evidence=node.evidence,
    )


def _to_event(numbered: NumberedEvent) -> monitor_pb2.Event:
    event = numbered.event
    return monitor_pb2.Event(
        event_id=numbered.event_id,
        event_time=to_timestamp(event.time),
        kind=event.kind,
        task_id=event.task_id,
        job_id=event.job_id,
        attempt=event.attempt,
        queue=event.queue,
        node=event.node,
        pilot_id=event.pilot_id,
        user=event.user,
        text=event.text,
    )
