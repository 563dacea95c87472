"""Converts access list entries and decisions between messages and domain values."""

from __future__ import annotations

from datetime import UTC, datetime

from pandawn.queueconfig.v1 import access_pb2
from pandawn_server.domain.access.lists import AccessEntry, Effect, SubjectKind, Term
from pandawn_server.domain.dispatch.reply_size import LIST_BYTES
from pandawn_server.usecases.access.lists import Checked
from pandawn_server.wire.edge.enums import ACCESS_EFFECT, ACCESS_GROUND, SUBJECT_KIND
from pandawn_server.wire.edge.pages import fitting
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import to_timestamp

MAX_SUBJECT_BYTES = 512
"""The longest name or pattern of an entry; names in certificates are shorter."""

MAX_LIMIT = 10_000_000
"""The largest limit of jobs, as for the parameters of queues."""

MAX_OFFSET = 10_000
"""The largest priority offset: the highest priority of a task."""

_UNSET = datetime(1970, 1, 1, tzinfo=UTC)


def from_entry(check: Checker, message: access_pb2.AccessEntry) -> AccessEntry:
    """The requested entry; the use case sets its author and time."""
    check.queue("entry.queue", message.queue)
    kind, subject = from_subject(check, "entry", message.kind, message.subject)
    effect = ACCESS_EFFECT.to_domain(message.effect)
    check.require(effect is not None, "entry.effect", "must be ALLOW or DENY")
    check.text("entry.message", message.message)
    expire_time = None
    if message.HasField("expire_time"):
        check.timestamp("entry.expire_time", message.expire_time)
        if check.ok:
            expire_time = message.expire_time.ToDatetime(UTC)
    return AccessEntry(
        queue=message.queue,
        kind=kind,
        subject=subject,
        effect=effect or Effect.DENY,
        granted_by="",
        grant_time=_UNSET,
        message=message.message,
        expire_time=expire_time,
        max_running=_limit(check, message, "max_running"),
        max_waiting=_limit(check, message, "max_waiting"),
        priority_offset=_offset(check, message),
    )


def from_subject(check: Checker, path: str, number: int, subject: str) -> tuple[SubjectKind, str]:
    """The kind and name of a subject; `path` is the field that contains them, or empty."""
    prefix = f"{path}." if path else ""
    kind = SUBJECT_KIND.to_domain(number)
    check.require(kind is not None, f"{prefix}kind", "must be set")
    if kind is SubjectKind.USER:
        check.user(f"{prefix}subject", subject)
    else:
        check.text(f"{prefix}subject", subject, max_bytes=MAX_SUBJECT_BYTES)
    return kind or SubjectKind.EVERYBODY, subject


def _limit(check: Checker, message: access_pb2.AccessEntry, name: str) -> int | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    value: int = getattr(message, name)
    return check.range(f"entry.{name}", value, 0, MAX_LIMIT)


def _offset(check: Checker, message: access_pb2.AccessEntry) -> int | None:
    if not message.HasField("priority_offset"):
        return None
    return check.range("entry.priority_offset", message.priority_offset, -MAX_OFFSET, MAX_OFFSET)


def to_entry(entry: AccessEntry) -> access_pb2.AccessEntry:
    """The message of an entry."""
    message = access_pb2.AccessEntry(
        queue=entry.queue,
        kind=SUBJECT_KIND.to_wire(entry.kind),
        subject=entry.subject,
        effect=ACCESS_EFFECT.to_wire(entry.effect),
        max_running=entry.max_running,
        max_waiting=entry.max_waiting,
        priority_offset=entry.priority_offset,
        message=entry.message,
        granted_by=entry.granted_by,
        grant_time=to_timestamp(entry.grant_time),
    )
    if entry.expire_time is not None:
        message.expire_time.FromDatetime(entry.expire_time)
    return message


def to_checked(checked: Checked) -> access_pb2.CheckAccessResponse:
    """The message of a decision; without the entries if the caller may not see them."""
    decision, shows = checked.decision, checked.shows_entries

    def term(value: Term) -> access_pb2.AccessTerm:
        has_entry = shows and value.entry is not None
        return access_pb2.AccessTerm(
            value=value.value,
            entry=to_entry(value.entry) if has_entry and value.entry is not None else None,
        )

    return access_pb2.CheckAccessResponse(
        allowed=decision.is_allowed,
        ground=ACCESS_GROUND.to_wire(decision.ground),
        sentence=checked.sentence,
        entry=to_entry(decision.entry) if shows and decision.entry is not None else None,
        matching=fitting(decision.matching, to_entry, LIST_BYTES) if shows else [],
        match_count=len(decision.matching) if shows else 0,
        max_running=term(decision.max_running),
        max_waiting=term(decision.max_waiting),
        priority_offset=term(decision.priority_offset),
        running_count=checked.load.running,
        waiting_count=checked.load.waiting,
        groups=checked.who.groups,
        subject=checked.who.subject,
    )
