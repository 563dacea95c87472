"""Creates, changes and deletes documents of the configuration: all at once, as one revision."""

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
"""Maximum number of names in a message."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The requested state of one document.

    `mask` names the parameters to write; None: `settings` are the whole document. `field` is the path of
    the settings in the request, for messages; `violations` are those that the wire found.
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
    """Conditions for a change.

    `expected_revision`, if set, must be the current one. `allowed_removals` is how many queues may be deleted or
    taken offline; None: a quarter.
    """

    expected_revision: int | None = None
    allowed_removals: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One violation of the document at a position of the request."""

    position: int
    key: DocumentKey
    violation: Violation


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a change, or of its preview. `revision` is the current one after it."""

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
    """Changes documents to their requested state, in one transaction: all or none.

    Raises `ForbiddenError` (SITE_ADMIN_REQUIRED), `InvalidRequestError` with all violations,
    `AbortedError` (STALE_ETAG, STALE_REVISION) and `PreconditionError` (TOO_MANY_QUEUES, QUEUE_IN_USE).
    """
    with context.db.write() as tx:
        now = context.clock()
        # From here on no other transaction can change the configuration.
        head = revisions.lock_head(tx)
        plan = _plan(tx, context.config.refresh(tx), wanted, now)
        require_author_of(author, plan.base, plan.changes)
        _refuse(plan, wanted, guards, head)
        if not plan.changes:
            return plan.outcome(head)
        _write(context, tx, plan, head + 1, cause, author, now)
    return plan.outcome(head + 1)


def preview_documents(context: Context, wanted: Sequence[Wanted]) -> Outcome:
    """Returns what `change_documents` would do, with all violations for which it would raise an error."""
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
                else "the document does not exist"
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
            # Old violations outside the mask are accepted: rules may be newer than documents.
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
    """Returns the queues that changes of any document delete or take offline, including overrides."""
    after = dict(base.documents)
    names: set[str] = set()
    for change in changes:
        if change.key.kind is DocumentKind.QUEUE:
            names.add(change.key.name)
        else:
            # Few sites and clouds are changed at a time, and each may affect any queue.
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
            f"the configuration is at revision {head}, but you read it at {expected}; "
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
            f"({_some(plan.removed)}), and {allowed} are allowed; if that is intended, allow {count} removals",
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
    problem = "was changed since you read it" if exists else "does not exist"
    return AbortedError(
        "STALE_ETAG",
        f"{key.kind.value} {key.name!r} {problem}; read it again and repeat the change",
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
