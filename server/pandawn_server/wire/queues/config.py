"""Converts documents, revisions and origins of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.message import Message

from pandawn.queueconfig.v1 import document_pb2, override_pb2, queue_pb2, revision_pb2
from pandawn_server.domain.access.reach import sites_to_change
from pandawn_server.domain.errors import AbortedError, Violation
from pandawn_server.domain.queues.layers import Document, DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import NOTHING_SET, SETTING_NAMES, QueueSettings
from pandawn_server.domain.queues.revisions import Author, Change, Revision
from pandawn_server.usecases.queues.change import Fault, Guards, Outcome, Wanted
from pandawn_server.usecases.queues.configure import Origin, SetOverride
from pandawn_server.usecases.queues.overrides import LONGEST_OVERRIDE
from pandawn_server.wire.edge.caller import caller, peer
from pandawn_server.wire.edge.enums import (
    DOCUMENT_ACTION,
    DOCUMENT_KIND,
    LEVEL,
    REVISION_CAUSE,
)
from pandawn_server.wire.edge.page_token import decode_page_token, encode_page_token
from pandawn_server.wire.edge.pages import page_of
from pandawn_server.wire.edge.rules import name_problem
from pandawn_server.wire.edge.validation import MAX_NAME_CHARACTERS, Checker
from pandawn_server.wire.edge.values import digest_of, to_timestamp
from pandawn_server.wire.queues.convert import from_settings, to_settings

A_MESSAGE = 500
"""Maximum number of documents or differences in one message of a stream; long ones make it fewer."""

MAX_TOOL_BYTES = 200
"""Maximum length of the name of the program that makes a change."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)
Request = document_pb2.ApplyConfigRequest | revision_pb2.RollbackRequest

UNKNOWN_PARAMETER = "{!r} is not a parameter; they are " + ", ".join(SETTING_NAMES)


def portions(found: Sequence[T], convert: Callable[[T], M]) -> Iterator[list[M]]:
    """Divides items into the messages of a stream; there is at least one message, which may be empty."""
    while True:
        page, more = page_of(found, A_MESSAGE, convert)
        yield page
        if not more:
            return
        found = found[len(page) :]


def author_of(check: Checker, note: document_pb2.ChangeNote) -> Author:
    """Returns the author of the change that this call makes, with the note on it."""
    who = caller()
    return Author(
        name=who.name or who.subject,
        subject=who.subject,
        peer=peer(),
        tool=check.text("note.tool", note.tool, max_bytes=MAX_TOOL_BYTES),
        message=check.text("note.message", note.message),
        sites=sites_to_change(who),
    )


def guards_of(check: Checker, request: Request) -> Guards:
    """Returns the conditions for a change."""
    alone = not request.page_token or request.validate_only
    check.require(alone, "page_token", "needs validate_only: only a plan has pages")
    expected = request.expected_revision if request.HasField("expected_revision") else None
    allowed = request.allowed_removals if request.HasField("allowed_removals") else None
    check.require((allowed or 0) >= 0, "allowed_removals", "must be at least 0")
    return Guards(expected, allowed)


def end_of(check: Checker, request: override_pb2.SetOverrideRequest) -> timedelta | datetime:
    """Returns how long, or until when, an override applies."""
    if request.HasField("duration"):
        return check.duration(
            "duration",
            request.duration,
            minimum=timedelta(seconds=1),
            maximum=LONGEST_OVERRIDE,
        )
    check.require(request.HasField("expire_time"), "end", "must be duration or expire_time")
    check.timestamp("expire_time", request.expire_time)
    return request.expire_time.ToDatetime(UTC) if check.ok else timedelta()


def from_changes(check: Checker, changes: Sequence[document_pb2.DocumentChange]) -> list[Wanted]:
    """Converts changes of documents. Each carries its own violations, so that all can be reported at once."""
    seen: set[DocumentKey] = set()
    return [_from_change(check, at, change, seen) for at, change in enumerate(changes)]


def _from_change(
    check: Checker, position: int, change: document_pb2.DocumentChange, seen: set[DocumentKey]
) -> Wanted:
    kind = DOCUMENT_KIND.to_domain(change.kind)
    check.require(kind is not None, ("changes", position, "kind"), "must be CLOUD, SITE or QUEUE")
    key = DocumentKey(kind or DocumentKind.QUEUE, change.name)
    wrong = []
    if problem := name_problem(change.name, MAX_NAME_CHARACTERS):
        wrong.append(Violation("name", problem))
    if key in seen:
        wrong.append(Violation("name", "is also the name of another document of this request"))
    seen.add(key)
    if not (change.remove or change.HasField("parameters")):
        wrong.append(Violation("change", "must be parameters or remove"))
    mask = tuple(change.update_mask.paths[: len(SETTING_NAMES) + 1])
    if len(mask) > len(SETTING_NAMES):
        wrong.append(Violation("update_mask", "names more parameters than exist"))
    wrong += [
        Violation("update_mask", UNKNOWN_PARAMETER.format(name[:64]))
        for name in mask
        if name not in SETTING_NAMES
    ]
    settings, violations = from_settings(change.parameters)
    if change.remove and mask:
        wrong.append(Violation("update_mask", "cannot be set together with remove"))
    return Wanted(
        key,
        settings,
        tuple(name for name in mask if name in SETTING_NAMES) if mask else None,
        delete=change.remove,
        etag=change.etag,
        field=f"changes[{position}].parameters",
        violations=(*wrong, *violations),
    )


def to_applied(request: Request, outcome: Outcome) -> document_pb2.ApplyConfigResponse:
    """What documents became, or would: as much as one reply holds, from the request's page token on.

    Raises `InvalidRequestError` (INVALID_PAGE_TOKEN) and `AbortedError` (STALE_REVISION).
    """
    # Queues may be used, or not any more, between two pages: at the end they move nothing else.
    rows: list[Fault | Change | str] = [*outcome.faults, *outcome.changes, *outcome.in_use]
    call, filters = request.DESCRIPTOR.name, _asked(request) if request.validate_only else ()
    key = decode_page_token(request.page_token, call, filters, (int, int)) or (outcome.revision, 0)
    revision, start = map(int, key)
    if revision != outcome.revision:
        raise AbortedError(
            "STALE_REVISION",
            f"the configuration is at revision {outcome.revision}, and the page before was made at {revision}; "
            "start again without page_token",
            metadata={"revision": str(outcome.revision)},
        )
    parts, more = page_of(rows[start:], len(rows), _to_part)
    reply = document_pb2.ApplyConfigResponse(
        revision=revision,
        removals=outcome.removals,
        removals_limit=outcome.removals_limit,
        diff_count=len(outcome.changes),
    )
    for part in parts:
        reply.MergeFrom(part)
    if more and request.validate_only:
        reply.next_page_token = encode_page_token(call, filters, (revision, start + len(parts)))
    return reply


def to_rolled_back(
    request: revision_pb2.RollbackRequest, outcome: Outcome
) -> revision_pb2.RollbackResponse:
    """The same for a rollback."""
    applied = to_applied(request, replace(outcome, faults=()))
    return revision_pb2.RollbackResponse(
        revision=applied.revision,
        diffs=applied.diffs,
        removals=applied.removals,
        removals_limit=applied.removals_limit,
        queues_in_use=applied.queues_in_use,
        diff_count=applied.diff_count,
        next_page_token=applied.next_page_token,
    )


def _asked(request: Request) -> tuple[str]:
    """Digest of what a page token belongs to: the request without it."""
    plain = type(request)()
    plain.CopyFrom(request)  # type: ignore[arg-type]
    plain.ClearField("page_token")
    return (digest_of(plain),)


def _to_part(row: Fault | Change | str) -> document_pb2.ApplyConfigResponse:
    if isinstance(row, Change):
        return document_pb2.ApplyConfigResponse(diffs=[to_diff(row)])
    if isinstance(row, str):
        return document_pb2.ApplyConfigResponse(queues_in_use=[row])
    violation = document_pb2.DocumentViolation(
        position=row.position,
        kind=DOCUMENT_KIND.to_wire(row.key.kind),
        # A name that is too long may be as long as the request.
        name=row.key.name[:MAX_NAME_CHARACTERS],
        field=row.violation.field,
        description=row.violation.description,
    )
    return document_pb2.ApplyConfigResponse(violations=[violation])


def to_diff(change: Change) -> document_pb2.DocumentDiff:
    """Converts a change of a document."""
    names = change.parameters
    return document_pb2.DocumentDiff(
        kind=DOCUMENT_KIND.to_wire(change.key.kind),
        name=change.key.name,
        action=DOCUMENT_ACTION.to_wire(change.action),
        parameters=names,
        old_values=to_settings(_only(change.old, names)),
        new_values=to_settings(_only(change.new, names)),
    )


def _only(settings: QueueSettings | None, names: Iterable[str]) -> QueueSettings:
    known = settings or NOTHING_SET
    return QueueSettings(**{name: known.get(name) for name in names})


def to_document(document: Document) -> document_pb2.Document:
    """Converts a document."""
    return document_pb2.Document(
        kind=DOCUMENT_KIND.to_wire(document.key.kind),
        name=document.key.name,
        parameters=to_settings(document.settings),
        etag=document.etag,
        revision=document.revision,
        update_time=to_timestamp(document.update_time),
    )


def to_revision(revision: Revision) -> revision_pb2.Revision:
    """Converts a revision."""
    author = revision.author
    return revision_pb2.Revision(
        number=revision.revision,
        change_time=to_timestamp(revision.time),
        cause=REVISION_CAUSE.to_wire(revision.cause),
        author=author.name,
        subject=author.subject,
        peer=author.peer,
        tool=author.tool,
        message=author.message,
        created_count=revision.created,
        changed_count=revision.changed,
        deleted_count=revision.deleted,
    )


def to_origins(origins: Mapping[str, Origin]) -> list[queue_pb2.Origin]:
    """Converts the origins of all parameters."""
    return [to_origin(parameter, origin) for parameter, origin in origins.items()]


def to_origin(parameter: str, origin: Origin) -> queue_pb2.Origin:
    """Converts the origin of one parameter."""
    place, by = origin.place, origin.revision
    message = queue_pb2.Origin(
        parameter=parameter,
        level=LEVEL.to_wire(place.level),
        name=place.name,
        revision=place.revision,
        expire_time=to_timestamp(place.expire_time),
    )
    if by is not None:
        message.author = by.author.name
        message.message = by.author.message
        message.set_time.FromDatetime(by.time)
    return message


def to_override(found: SetOverride) -> override_pb2.QueueOverride:
    """Converts an override and its origin."""
    override = found.override
    return override_pb2.QueueOverride(
        queue=override.queue,
        value=to_settings({override.parameter: override.value}),
        origin=to_origin(override.parameter, found.origin),
    )
