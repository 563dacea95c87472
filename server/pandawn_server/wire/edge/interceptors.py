"""Wraps every call: admits or refuses the caller, maps errors to statuses, measures and audits.

There is one interceptor, and it keeps the handlers it wrapped: gRPC asks for a handler at each call, which should
cost no more than a dictionary look-up and one or two coroutines.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import NoReturn

import grpc
import grpc.aio
import structlog

from pandawn_server.domain.errors import Code, PandawnError, UnavailableError
from pandawn_server.logs import Log, enter_call
from pandawn_server.telemetry.api import Telemetry
from pandawn_server.telemetry.names import (
    INCIDENTS,
    PEER_ADDRESS,
    REASON,
    REFUSALS,
    RPC,
    RPC_METHOD,
    RPC_STATUS_CODE,
    RPC_SYSTEM,
)
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.auth.shown import enter_metadata, metadata_of
from pandawn_server.wire.edge.auditing import Auditor, record_request
from pandawn_server.wire.edge.bounds import Bounds, Visit
from pandawn_server.wire.edge.caller import enter_peer, peer
from pandawn_server.wire.edge.errors import Refusal, incident_refusal, refusal_of
from pandawn_server.wire.edge.handlers import (
    Behavior,
    Handler,
    ServicerContext,
    behavior_of,
    rebuilt,
)
from pandawn_server.wire.edge.policies import OPERATORS_ONLY, POLICIES

WARNING_INTERVAL_S = 10.0
"""Minimum time, in seconds, between warnings with the same reason: in an outage all pilots are refused at once,
and guesses at credentials must not fill the disk."""

LINGER = timedelta(milliseconds=500)
"""How long a health watcher may take to get its last message when the server stops."""

_OWN_SERVICES = "/pandawn."

# The server's faults by OpenTelemetry's conventions; other codes are the caller's.
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)

_WORTH_A_WARNING = frozenset({Code.UNAVAILABLE, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED})

_log: Log = structlog.get_logger(__name__)


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of all services; `gate` admits the callers.

    `shutting_down` ends streams of gRPC's own services and makes new calls fail. Without an `auditor`
    nothing is audited. `bounds` counts the calls of all doors.
    """

    def __init__(
        self,
        gate: Gate,
        telemetry: Telemetry,
        shutting_down: asyncio.Event,
        auditor: Auditor | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._gate = gate
        self._bounds = Bounds() if bounds is None else bounds
        self._auditor = auditor
        self._telemetry = telemetry
        self._shutting_down = shutting_down
        self._handlers: dict[str, Handler] = {}
        self._next_warning: dict[str, float] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the wrapped handler of a method, None for an unknown one."""
        method = handler_call_details.method
        # The handler runs in the same task, so it sees the context variable.
        enter_metadata(handler_call_details.invocation_metadata)
        handler = self._handlers.get(method)
        if handler is None:
            found = await continuation(handler_call_details)
            if found is None:
                return None
            handler = self._handlers[method] = self._wrapped(method, found)
        return handler

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        auditor = self._auditor
        if auditor is not None and not auditor.audits(method):
            auditor = None
        behavior = behavior_of(method, handler, seen=None if auditor is None else record_request)
        is_own = method.startswith(_OWN_SERVICES)
        if handler.response_streaming and not is_own:
            behavior = self._ended_by_shutdown(behavior)
        if auditor is not None:
            behavior = self._audited(method, behavior, auditor)
        if auditor is not None or POLICIES.get(method, OPERATORS_ONLY).changes:
            behavior = self._located(behavior)
        behavior = self._guarded(
            method,
            behavior,
            is_stream=handler.response_streaming,
            # Of gRPC's own services, reflection streams too, but it answers each request as it reads it.
            is_upload=handler.request_streaming and is_own,
        )
        if self._telemetry.enabled and is_own:
            behavior = self._observed(method.removeprefix("/"), behavior)
        return rebuilt(handler, behavior)

    def _guarded(
        self, method: str, behavior: Behavior, *, is_stream: bool, is_upload: bool
    ) -> Behavior:
        registers = POLICIES.get(method, OPERATORS_ONLY).begins_session

        async def call(request: object, context: ServicerContext) -> object:
            address = self._gate.address(context)
            enter_call(method, address)
            if self._shutting_down.is_set():
                await self._refuse(context, _stopping())
            try:
                principal = self._gate.admit(method, context)
                visit = self._bounds.enter(
                    principal,
                    address.rpartition(":")[0],
                    is_stream=is_stream,
                    is_upload=is_upload,
                    registers=registers,
                )
                if visit is not None:
                    # When the call is done, not when it is answered: an answer that nobody reads takes memory.
                    context.add_done_callback(partial(self._left, visit))  # type: ignore[arg-type] # as it is called
                return await behavior(request, context)
            except PandawnError as error:
                if self._auditor is not None:
                    self._auditor.refused(method, self._gate.peer(context), error)
                _drop_frames(error)
                await self._refuse(context, error)
            except grpc.aio.BaseError:
                # The handler aborted the call itself, or the connection is gone.
                raise
            except Exception as error:  # noqa: BLE001 (the client must not see it)
                await self._report(context, error)

        return call

    def _left(self, visit: Visit, _context: ServicerContext) -> None:
        self._bounds.leave(visit)

    def _located(self, behavior: Behavior) -> Behavior:
        """Records the peer, only where something needs it: a pilot's calls should not pay for it."""

        async def call(request: object, context: ServicerContext) -> object:
            enter_peer(self._gate.peer(context))
            return await behavior(request, context)

        return call

    def _audited(self, method: str, behavior: Behavior, auditor: Auditor) -> Behavior:
        async def call(request: object, context: ServicerContext) -> object:
            auditor.begin()
            try:
                response = await behavior(request, context)
            except PandawnError:
                raise
            except asyncio.CancelledError:
                auditor.interrupted(method, peer(), grpc.StatusCode.CANCELLED.name)
                raise
            except Exception:
                auditor.interrupted(method, peer(), grpc.StatusCode.INTERNAL.name)
                raise
            await auditor.accepted(method, peer(), response)
            return response

        return call

    def _observed(self, method: str, behavior: Behavior) -> Behavior:
        attributes = {RPC_SYSTEM: "grpc", RPC_METHOD: method}

        async def call(request: object, context: ServicerContext) -> object:
            observation = self._telemetry.observe(
                RPC, method, attributes, carrier=tuple(metadata_of(context))
            )
            observation.begin()
            observation.set(PEER_ADDRESS, self._gate.address(context))
            # Stays so if neither a response nor a status is sent: the client went away.
            code = grpc.StatusCode.CANCELLED
            try:
                response = await behavior(request, context)
                code = _code_of(context)
                return response
            except grpc.aio.AbortError:
                code = _code_of(context)
                raise
            finally:
                observation.set(RPC_STATUS_CODE, code.name)
                if code in _FAULTS:
                    observation.fail(code.name)
                observation.end()

        return call

    def _ended_by_shutdown(self, behavior: Behavior) -> Behavior:
        async def call(request: object, context: ServicerContext) -> object:
            # A health watch or an open reflection client would never end.
            work = asyncio.ensure_future(behavior(request, context))
            stop = asyncio.ensure_future(self._shutting_down.wait())
            try:
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    await asyncio.wait({work}, timeout=LINGER / timedelta(seconds=1))
                if not work.done():
                    raise _stopping()
                return await work
            finally:
                stop.cancel()
                work.cancel()

        return call

    async def _refuse(self, context: ServicerContext, error: PandawnError) -> NoReturn:
        self._telemetry.count(REFUSALS, attributes={REASON: error.reason})
        if error.code in _WORTH_A_WARNING and error.reason != "SHUTTING_DOWN":
            now = time.monotonic()
            if now >= self._next_warning.get(error.reason, 0.0):
                self._next_warning[error.reason] = now + WARNING_INTERVAL_S
                _log.warning("call refused", reason=error.reason, message=error.message)
        else:
            _log.debug("call refused", reason=error.reason, message=error.message)
        await _abort(context, refusal_of(error))

    async def _report(self, context: ServicerContext, error: Exception) -> NoReturn:
        incident = secrets.token_hex(6)
        self._telemetry.count(INCIDENTS)
        _log.error("unexpected error", incident=incident, exc_info=error)
        _drop_frames(error)
        await _abort(context, incident_refusal(incident))


def _drop_frames(error: BaseException | None) -> None:
    """Drops the tracebacks of an error, and with them the request in their frames.

    gRPC keeps what `abort` raises in a reference cycle with the call. The frames hold the decoded request, tens of
    times its size on the wire, and would stay until the garbage collector runs.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _stopping() -> UnavailableError:
    return UnavailableError("SHUTTING_DOWN", "the server is stopping")


def _code_of(context: ServicerContext) -> grpc.StatusCode:
    # None until somebody sets a code, whatever the type stubs say.
    code: grpc.StatusCode | None = context.code()
    return grpc.StatusCode.OK if code is None else code


async def _abort(context: ServicerContext, refusal: Refusal) -> NoReturn:
    await context.abort(refusal.code, refusal.message, refusal.trailers)
