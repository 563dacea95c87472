"""Documents, revisions and origins of the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pandawn.queueconfig.v1 import document_pb2, override_pb2, queue_pb2, revision_pb2
from pandawn_server.domain.access.reach import sites_to_change
from pandawn_server.domain.errors import Violation
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
from pandawn_server.wire.edge.rules import name_problem
from pandawn_server.wire.edge.validation import MAX_NAME_CHARACTERS, Checker
from pandawn_server.wire.edge.values import to_timestamp
from pandawn_server.wire.queues.convert import from_settings, to_settings

A_MESSAGE = 500
"""Documents or differences of one message of a stream."""

MAX_TOOL_BYTES = 200
"""Longest name of the program that makes a change."""

T = TypeVar("T")

UNKNOWN_PARAMETER = "{!r} is not a parameter; they are " + ", ".join(SETTING_NAMES)


def portions(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """What the messages of a stream hold; there is at least one, if an empty one."""
    for start in range(0, max(len(found), 1), A_MESSAGE):
        yield found[start : start + A_MESSAGE]


def author_of(check: Checker, note: document_pb2.ChangeNote) -> Author:
    """Who makes the change of this call, and what is said of it."""
    who = caller()
    return Author(
        name=who.name or who.subject,
        subject=who.subject,
        peer=peer(),
        tool=check.text("note.tool", note.tool, max_bytes=MAX_TOOL_BYTES),
        message=check.text("note.message", note.message),
        sites=sites_to_change(who),
    )


def guards_of(
    check: Checker, request: document_pb2.ApplyConfigRequest | revision_pb2.RollbackRequest
) -> Guards:
    """What must hold for a change."""
    expected = request.expected_revision if request.HasField("expected_revision") else None
    allowed = request.allowed_removals if request.HasField("allowed_removals") else None
    check.require((allowed or 0) >= 0, "allowed_removals", "must be at least 0")
    return Guards(expected, allowed)


def end_of(check: Checker, request: override_pb2.SetOverrideRequest) -> timedelta | datetime:
    """For how long, or until when, an override is to hold."""
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
    """What documents are to be. What is wrong with one goes with it, so that all of it can be told at once."""
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
        wrong.append(Violation("name", "is the name of another document of this request too"))
    seen.add(key)
    if not (change.remove or change.HasField("parameters")):
        wrong.append(Violation("change", "must have parameters, or remove"))
    mask = tuple(change.update_mask.paths[: len(SETTING_NAMES) + 1])
    if len(mask) > len(SETTING_NAMES):
        wrong.append(Violation("update_mask", "names more parameters than there are"))
    wrong += [
        Violation("update_mask", UNKNOWN_PARAMETER.format(name[:64]))
        for name in mask
        if name not in SETTING_NAMES
    ]
    settings, violations = from_settings(change.parameters)
    if change.remove and mask:
        wrong.append(Violation("update_mask", "cannot go with remove"))
    return Wanted(
        key,
        settings,
        tuple(name for name in mask if name in SETTING_NAMES) if mask else None,
        delete=change.remove,
        etag=change.etag,
        field=f"changes[{position}].parameters",
        violations=(*wrong, *violations),
    )


def to_applied(outcome: Outcome) -> document_pb2.ApplyConfigResponse:
    """What documents became, or would."""
    return document_pb2.ApplyConfigResponse(
        revision=outcome.revision,
        diffs=map(to_diff, outcome.changes),
        violations=to_faults(outcome.faults),
        removals=outcome.removals,
        removals_limit=outcome.removals_limit,
        queues_in_use=outcome.in_use,
    )


def to_faults(faults: Iterable[Fault]) -> list[document_pb2.DocumentViolation]:
    """All that is wrong."""
    return [
        document_pb2.DocumentViolation(
            position=fault.position,
            kind=DOCUMENT_KIND.to_wire(fault.key.kind),
            name=fault.key.name,
            field=fault.violation.field,
            description=fault.violation.description,
        )
        for fault in faults
    ]


def to_diff(change: Change) -> document_pb2.DocumentDiff:
    """What is different in a document."""
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
    """A document as it is set."""
    return document_pb2.Document(
        kind=DOCUMENT_KIND.to_wire(document.key.kind),
        name=document.key.name,
        parameters=to_settings(document.settings),
        etag=document.etag,
        revision=document.revision,
        update_time=to_timestamp(document.update_time),
    )


def to_revision(revision: Revision) -> revision_pb2.Revision:
    """One change of the configuration."""
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
    """Where the value of each parameter comes from."""
    return [to_origin(parameter, origin) for parameter, origin in origins.items()]


def to_origin(parameter: str, origin: Origin) -> queue_pb2.Origin:
    """Where one value comes from."""
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
    """An override with who set it."""
    override = found.override
    return override_pb2.QueueOverride(
        queue=override.queue,
        value=to_settings({override.parameter: override.value}),
        origin=to_origin(override.parameter, found.origin),
    )
