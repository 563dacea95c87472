"""Records what callers did: accepted calls before they are answered, refusals soon after, at a limited rate.

The use case commits an accepted change, then the audit record is committed, then the call is answered. If the
server is killed in between, nobody has an answer, and the caller's retry writes the record. Records of calls
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
"""Interval between writes of refusals."""

_DENIALS = frozenset({Code.UNAUTHENTICATED, Code.PERMISSION_DENIED})
_OWN = frozenset({Method.X509, Method.TOKEN, Method.HOST})
"""Methods of callers with a credential of their own: neither a session nor this machine's operator."""

_SUBJECTS: ContextVar[list[object]] = ContextVar("pandawn_audit_subjects")

_log: Log = structlog.get_logger(__name__)


def record_request(message: object) -> None:
    """Keeps the request of the current call: it names what the call is about."""
    subjects = _SUBJECTS.get(None)
    if subjects is not None:
        subjects.append(message)


def record_subject(found: About) -> None:
    """Sets what the current call is about, when it is a stream, whose messages are not kept."""
    record_request(found)


class Auditor:
    """The audit of one server process. Use from the event loop only, except `flush`."""

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
        # Refusals are added in the event loop and written in a thread.
        self._lock = threading.Lock()
        # Keeps references, or the loop could drop the tasks before they end.
        self._afterwards: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Starts the record of the current call."""
        _SUBJECTS.set([])

    @staticmethod
    def audits(method: str) -> bool:
        """Whether accepted calls of a method may be recorded."""
        policy = POLICIES.get(method, OPERATORS_ONLY)
        return policy.changes or policy.people_change

    async def accepted(self, method: str, peer: str, response: object) -> None:
        """Records a successful call; the record is on disk on return.

        Raises `UnavailableError` if that is impossible now: the caller must not get a success then.
        """
        principal = known_caller()
        policy = POLICIES.get(method, OPERATORS_ONLY)
        if not policy.changes and (principal is None or principal.method not in _OWN):
            return
        on = joined(_subject(), about(response))
        await self._batcher.submit(self._record(method, peer, "OK", principal, on))

    def interrupted(self, method: str, peer: str, code: str) -> None:
        """Records, soon, a call whose outcome is unknown: its caller went away, or the server failed."""
        record = self._record(method, peer, code, known_caller(), _subject())
        task = asyncio.get_running_loop().create_task(self._soon(record))
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    def refused(self, method: str, peer: str, error: PandawnError) -> None:
        """Counts a refused call, if it would have changed something or its caller was not allowed to make it."""
        if error.code not in _DENIALS and not POLICIES.get(method, OPERATORS_ONLY).changes:
            return
        on = joined(_subject(), about_error(error.metadata))
        record = self._record(method, peer, error.code.value, known_caller(), on, error)
        with self._lock:
            self._tally.add(record)

    def flush(self) -> None:
        """Writes as many refusals as the rate allows; runs in a thread every `FLUSH_INTERVAL`."""
        with self._lock:
            records = self._tally.take(self._clock())
        if not records:
            return
        try:
            self._write(records)
        except PandawnError:
            # The database is unavailable: keep them until it is back.
            with self._lock:
                for record in records:
                    self._tally.add(record)
            raise

    async def close(self) -> None:
        """Writes all remaining records; later ones are lost."""
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
    """Shortens gRPC's `/pandawn.broker.v1.Broker/SubmitTask` to `Broker.SubmitTask`."""
    return cleaned(method.rpartition(".")[2].replace("/", "."))


def _subject() -> About:
    found = About()
    for one in _SUBJECTS.get(None) or ():
        found = joined(found, one if isinstance(one, About) else about(one))
    return found


def _host(peer: str) -> str:
    """The host of a peer as gRPC names it; the port changes with each connection."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else kind
