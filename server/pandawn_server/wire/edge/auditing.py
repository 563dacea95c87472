"""Writes down what callers did: what was accepted before it is answered, refusals soon after, a few at a time.

An accepted change is committed by its use case, then its line is committed, then it is answered: a server
that is killed in between has answered nobody, and the caller's repetition writes the line. Lines of calls
that end together share one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import unquote

import structlog

from pandawn_server.domain.access.audit import (
    About,
    AuditRecord,
    RefusalTally,
    about_error,
    cleaned,
    joined,
)
from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.errors import Code, PandawnError, UnavailableError
from pandawn_server.logs import Log
from pandawn_server.usecases.access.audit import write_audit
from pandawn_server.usecases.context import Context
from pandawn_server.wire.edge.audit_subject import about
from pandawn_server.wire.edge.batcher import Batcher, Batchers
from pandawn_server.wire.edge.caller import known_caller
from pandawn_server.wire.edge.policies import OPERATORS_ONLY, POLICIES
from pandawn_server.wire.edge.runner import Runner

FLUSH_INTERVAL = timedelta(seconds=1)
"""Time between two looks for refusals to write."""

_DENIALS = frozenset({Code.UNAUTHENTICATED, Code.PERMISSION_DENIED})
_OWN = frozenset({Method.X509, Method.TOKEN, Method.HOST})
"""Methods of callers with a credential of their own; neither a session nor this machine's operator."""

_TOLD: ContextVar[list[object]] = ContextVar("pandawn_audit_about")

_log: Log = structlog.get_logger(__name__)


def note_request(message: object) -> None:
    """Keeps the request of the call, which says what it is about."""
    told = _TOLD.get(None)
    if told is not None:
        told.append(message)


def tell_about(found: About) -> None:
    """Says what the call is about, where it is a stream, whose parts are not kept."""
    note_request(found)


class Auditor:
    """Keeps the audit of one server process. To be used from the event loop, but for `flush`."""

    def __init__(
        self,
        context: Context,
        batchers: Batchers,
        runner: Runner,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._runner = runner
        self._write = partial(write_audit, context)
        self._batcher: Batcher[AuditRecord, None] = batchers.make("Audit", self._write)
        self._tally = RefusalTally()
        # Refusals come in the event loop and are written in a thread.
        self._lock = threading.Lock()
        # References, or the loop would drop them half-way.
        self._afterwards: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """A call begins that may be written down."""
        _TOLD.set([])

    @staticmethod
    def writes_down(method: str) -> bool:
        """Whether accepted calls of a method may be written down."""
        policy = POLICIES.get(method, OPERATORS_ONLY)
        return policy.changes or policy.people_change

    async def accepted(self, method: str, peer: str, response: object) -> None:
        """Writes down a call that succeeded; on disk when it returns.

        Raises `UnavailableError` when that cannot be done now: then the caller must not be told of success.
        """
        principal = known_caller()
        policy = POLICIES.get(method, OPERATORS_ONLY)
        if not policy.changes and (principal is None or principal.method not in _OWN):
            return
        on = joined(_told(), about(response))
        await self._batcher.submit(self._record(method, peer, "OK", principal, on))

    def interrupted(self, method: str, peer: str, code: str) -> None:
        """Writes down soon a call of which nobody knows whether it was done: its caller went away, or we failed."""
        record = self._record(method, peer, code, known_caller(), _told())
        task = asyncio.get_running_loop().create_task(self._soon(record))
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    def refused(self, method: str, peer: str, error: PandawnError) -> None:
        """Counts a call that was refused, if it wanted to change something, or was not for its caller."""
        if error.code not in _DENIALS and not POLICIES.get(method, OPERATORS_ONLY).changes:
            return
        on = joined(_told(), about_error(error.metadata))
        record = self._record(method, peer, error.code.value, known_caller(), on, error)
        with self._lock:
            self._tally.add(record)

    def flush(self) -> None:
        """Writes refusals, as many as may be written now; in a thread, every `FLUSH_INTERVAL`."""
        with self._lock:
            records = self._tally.take(self._clock())
        if not records:
            return
        try:
            self._write(records)
        except PandawnError:
            # The database is away: they are written when it is back.
            with self._lock:
                for record in records:
                    self._tally.add(record)
            raise

    async def close(self) -> None:
        """Writes all that is left; what comes later is lost."""
        if self._afterwards:
            await asyncio.wait(self._afterwards)
        with self._lock:
            records = self._tally.take_all()
        with contextlib.suppress(PandawnError):
            await self._runner.run(self._write, records)

    async def _soon(self, record: AuditRecord) -> None:
        try:
            await self._batcher.submit(record)
        except UnavailableError as error:
            _log.warning("audit line lost", reason=error.reason, audited=record.rpc)

    def _record(
        self,
        method: str,
        peer: str,
        code: str,
        principal: Principal | None,
        on: About,
        error: PandawnError | None = None,
    ) -> AuditRecord:
        return AuditRecord(
            time=self._clock(),
            rpc=short_name(method),
            peer=cleaned(_host(peer)),
            code=code,
            user=principal.name if principal else "",
            subject=cleaned(principal.subject, 512) if principal else "",
            method=principal.method.value if principal else "",
            rule=cleaned(principal.rule) if principal else "",
            about=on,
            reason=error.reason if error else "",
            text=cleaned(error.message, 512) if error else "",
        )


def short_name(method: str) -> str:
    """`Broker.SubmitTask` of gRPC's `/pandawn.broker.v1.Broker/SubmitTask`."""
    return cleaned(method.rpartition(".")[2].replace("/", "."))


def _told() -> About:
    found = About()
    for one in _TOLD.get(None) or ():
        found = joined(found, one if isinstance(one, About) else about(one))
    return found


def _host(peer: str) -> str:
    """A peer as gRPC gives it, without its port: that is another one with each connection."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else kind
