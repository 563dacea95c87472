"""Documents of the configuration are created, changed and deleted: all at once, as one revision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pandawn_server.domain.errors import (
    AbortedError,
    InvalidRequestError,
    PreconditionError,
    Violation,
)
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.config_rules import removals_limit, setting_violations
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.layers import (
    Document,
    DocumentKey,
    DocumentKind,
    Level,
    layers_of,
)
from pandawn_server.domain.queues.queues import NOTHING_SET, QueueSettings, QueueStatus, merged
from pandawn_server.domain.queues.revisions import Action, Author, Cause, Change
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import pilots
from pandawn_server.storage.monitor import events
from pandawn_server.storage.queues import documents, queues, revisions
from pandawn_server.storage.tasks import jobs
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.queues.rights import require_author_of

_LEVELS: Mapping[DocumentKind, Level] = {
    DocumentKind.CLOUD: Level.CLOUD,
    DocumentKind.SITE: Level.SITE,
    DocumentKind.QUEUE: Level.QUEUE,
}

_SHOWN = 10
"""Names that a message lists."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one document is to be.

    `mask` names the parameters to write; None: `settings` are the whole document. `field` is the path of
    the settings in the request, for messages; `violations` is what was found where they came in.
    """

    key: DocumentKey
    settings: QueueSettings = NOTHING_SET
    mask: tuple[str, ...] | None = None
    delete: bool = False
    etag: str = ""
    field: str = ""
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class Guards:
    """What must hold for a change to be made.

    `expected_revision` is the one that must stand. `allowed_removals` is how many queues may be deleted or
    taken offline; None: a quarter.
    """

    expected_revision: int | None = None
    allowed_removals: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the document at a position of the request."""

    position: int
    key: DocumentKey
    violation: Violation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did, or would do. `revision` is the one that stands after it."""

    revision: int
    changes: Sequence[Change]
    faults: Sequence[Fault] = ()
    removals: int = 0
    removals_limit: int = 0
    in_use: Sequence[str] = ()


@dataclass(slots=True)
class _Plan:
    base: Configuration
    changes: list[Change] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    stale: list[DocumentKey] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    in_use: list[str] = field(default_factory=list)

    def outcome(self, revision: int) -> Outcome:
        limit = removals_limit(len(self.base.names))
        return Outcome(revision, self.changes, self.faults, len(self.removed), limit, self.in_use)


def change_documents(
    context: Context,
    wanted: Sequence[Wanted],
    author: Author,
    guards: Guards = Guards(),
    cause: Cause = Cause.APPLY,
) -> Outcome:
    """Makes documents what they are wanted to be, in one transaction: all or none.

    Raises `ForbiddenError` (SITE_ADMIN_REQUIRED), `InvalidRequestError` with all that is wrong,
    `AbortedError` (STALE_ETAG, STALE_REVISION) and `PreconditionError` (TOO_MANY_QUEUES, QUEUE_IN_USE).
    """
    with context.db.write() as tx:
        now = context.clock()
        # After this nobody else changes anything until we are done.
        head = revisions.lock_head(tx)
        plan = _plan(tx, context.config.refresh(tx), wanted, now)
        require_author_of(author, plan.base, plan.changes)
        _refuse(plan, wanted, guards, head)
        if not plan.changes:
            return plan.outcome(head)
        _write(context, tx, plan, head + 1, cause, author, now)
    return plan.outcome(head + 1)


def preview_documents(context: Context, wanted: Sequence[Wanted]) -> Outcome:
    """What `change_documents` would do, with everything that it would refuse."""
    now = context.clock()
    with context.db.read() as tx:
        plan = _plan(tx, context.config.refresh(tx), wanted, now)
        return plan.outcome(plan.base.revision)


def _plan(tx: Transaction, base: Configuration, wanted: Sequence[Wanted], now: datetime) -> _Plan:
    plan = _Plan(base)
    for position, want in enumerate(wanted):
        known = base.documents.get(want.key)
        exists = known is not None and not known.is_deleted
        old = known.settings if known is not None and exists else None
        if want.etag and (known is None or not exists or want.etag != known.etag):
            plan.stale.append(want.key)
            text = (
                "the document was changed since you read it"
                if exists
                else "there is no such document any more"
            )
            plan.faults.append(Fault(position, want.key, Violation("etag", text)))
        if want.delete:
            new = None
        elif want.mask is None:
            new = want.settings
        else:
            new = merged(old or NOTHING_SET, want.settings, want.mask)
        wrong = [*want.violations]
        if new is not None:
            # What was wrong before and is not touched stays: rules may be newer than documents.
            wrong += [
                violation
                for violation in setting_violations(new, _LEVELS[want.key.kind])
                if want.mask is None or violation.field in want.mask
            ]
        plan.faults += [Fault(position, want.key, violation) for violation in wrong]
        change = Change(want.key, old, new)
        if not change.is_empty:
            plan.changes.append(change)
    plan.removed = _removed(base, plan.changes, now)
    deleted = [
        change.key.name
        for change in plan.changes
        if change.action is Action.DELETE and change.key.kind is DocumentKind.QUEUE
    ]
    if deleted:
        plan.in_use = sorted(
            jobs.queues_with_jobs(tx, deleted) | pilots.queues_with_pilots(tx, deleted)
        )
    return plan


def _removed(base: Configuration, changes: Iterable[Change], now: datetime) -> list[str]:
    """Queues that changes delete or take offline, through whichever document, overrides included."""
    after = dict(base.documents)
    names: set[str] = set()
    for change in changes:
        if change.key.kind is DocumentKind.QUEUE:
            names.add(change.key.name)
        else:
            # Few are changed at a time, and each may concern any queue.
            names.update(base.names)
        after[change.key] = _document(change, "", {}, 0, now, 0)
    removed = []
    for name in sorted(names):
        old = base.queue(name, now)
        if old is None or old.status is QueueStatus.OFFLINE:
            continue
        layers = layers_of(name, after, base.overrides.get(name, ()), now)
        if layers is None or layers.queue.status is QueueStatus.OFFLINE:
            removed.append(name)
    return removed


def _refuse(plan: _Plan, wanted: Sequence[Wanted], guards: Guards, head: int) -> None:
    expected = guards.expected_revision
    if expected is not None and expected != head:
        raise AbortedError(
            "STALE_REVISION",
            f"the configuration is at revision {head}, not at {expected} as when you read it; "
            "read it again and repeat the change",
            metadata={"revision": str(head)},
        )
    if plan.stale:
        raise _stale_etag(plan, plan.stale[0])
    if plan.faults:
        raise InvalidRequestError.of(
            [
                Violation(
                    f"{wanted[fault.position].field}.{fault.violation.field}",
                    fault.violation.description,
                )
                for fault in plan.faults
            ]
        )
    limit = removals_limit(len(plan.base.names))
    allowed = limit if guards.allowed_removals is None else guards.allowed_removals
    count = len(plan.removed)
    if count > allowed:
        raise PreconditionError(
            "TOO_MANY_QUEUES",
            f"the change deletes or takes offline {count} of {len(plan.base.names)} queues "
            f"({_some(plan.removed)}), and {allowed} are allowed; say {count} if that is meant",
            metadata={"removals": str(count), "allowed": str(allowed)},
        )
    if plan.in_use:
        raise PreconditionError(
            "QUEUE_IN_USE",
            f"queues with jobs that have not ended, or with live pilots, cannot be deleted: {_some(plan.in_use)}; "
            "take them offline and wait until they are empty, or cancel the jobs",
            metadata={"queue": plan.in_use[0], "count": str(len(plan.in_use))},
        )


def _stale_etag(plan: _Plan, key: DocumentKey) -> AbortedError:
    known = plan.base.documents.get(key)
    exists = known is not None and not known.is_deleted
    there = "was changed since you read it" if exists else "does not exist any more"
    return AbortedError(
        "STALE_ETAG",
        f"{key.kind.value} {key.name!r} {there}; read it again and repeat the change",
        metadata={
            key.kind.value: key.name,
            "etag": known.etag if known is not None and exists else "",
        },
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _write(
    context: Context,
    tx: Transaction,
    plan: _Plan,
    revision: int,
    cause: Cause,
    author: Author,
    now: datetime,
) -> None:
    written = []
    for change in plan.changes:
        known = plan.base.documents.get(change.key)
        since = dict(known.since) if known is not None else {}
        kept = {name: since.get(name, revision) for name in change.new or ()}
        since = kept | dict.fromkeys(set(change.parameters) & set(kept), revision)
        ended = 0 if known is None else known.override_revision
        written.append(_document(change, context.new_id(), since, revision, now, ended))
    names = [d.key.name for d in written if d.key.kind is DocumentKind.QUEUE]
    queues.add_queues(tx, names)
    documents.write_documents(tx, written)
    gone = [d.key.name for d in written if d.is_deleted and d.key.kind is DocumentKind.QUEUE]
    if gone:
        documents.delete_overrides(tx, gone)
    revisions.write_revision(tx, revision, now, cause, author, plan.changes)
    events.insert_events(tx, [_event(change, author, now) for change in plan.changes])


def _document(
    change: Change,
    etag: str,
    since: Mapping[str, int],
    revision: int,
    now: datetime,
    override_revision: int,
) -> Document:
    return Document(
        change.key,
        change.new or NOTHING_SET,
        since,
        etag,
        revision,
        now,
        is_deleted=change.new is None,
        override_revision=override_revision,
    )


def _event(change: Change, author: Author, now: datetime) -> Event:
    named = f"{change.key.kind.value} {change.key.name}"
    done = {
        Action.CREATE: "was created",
        Action.CHANGE: f"was changed: {', '.join(change.parameters)}",
        Action.DELETE: "was deleted",
    }[change.action]
    why = f" ({author.message})" if author.message else ""
    queue = change.key.name if change.key.kind is DocumentKind.QUEUE else ""
    return Event(
        now, EventKind.QUEUE_APPLIED, f"{named} {done}{why}", queue=queue, user=author.name
    )
