"""Commands of site administrators on the access lists of their queues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pandawn_server.domain.access.lists import (
    MAX_ENTRIES,
    AccessEntry,
    Decision,
    Effect,
    Identity,
    SubjectKind,
    sentence,
)
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.errors import (
    ExhaustedError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    Violation,
)
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.queues import Queue, queue_not_found
from pandawn_server.storage.access import limits, lists
from pandawn_server.storage.access.limits import Load
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.monitor import events
from pandawn_server.usecases.access.limits import decisions, rules_of
from pandawn_server.usecases.access.reach import require_sites
from pandawn_server.usecases.context import Context


@dataclass(frozen=True, slots=True)
class Granted:
    """The entry, the one that it replaced, and whether users without an entry may use the queue."""

    entry: AccessEntry
    replaced: AccessEntry | None
    is_open: bool


def grant_access(context: Context, entry: AccessEntry, by: Principal) -> Granted:
    """Writes an entry, and replaces one of the same subject; sets `granted_by` and `grant_time`.

    An entry that equals the existing one changes nothing, not even its author and time.
    Raises `NotFoundError` (QUEUE_NOT_FOUND), `ForbiddenError` (SITE_ADMIN_REQUIRED),
    `InvalidRequestError` and `ExhaustedError` (TOO_MANY_ENTRIES).
    """
    now = context.clock()
    entry = replace(entry, granted_by=name_of(by), grant_time=now)
    violations = _violations(entry, now)
    if violations:
        raise InvalidRequestError.of(violations)
    with context.db.write() as tx:
        queue = _administered(context, tx, entry.queue, by)
        known = lists.get_entry(tx, entry.queue, entry.kind, entry.subject)
        if known is None and lists.count_entries(tx, entry.queue) >= MAX_ENTRIES:
            raise ExhaustedError(
                "TOO_MANY_ENTRIES",
                f"the list of queue {entry.queue!r} has {MAX_ENTRIES:,} entries, which is the limit; "
                "use a group, or revoke expired entries",
                metadata={"queue": entry.queue},
            )
        if known is not None and _is_same(known, entry):
            entry = known
        else:
            lists.put_entry(tx, entry, is_new=known is None)
            events.insert_events(
                tx, [Event(now, EventKind.ACCESS_GRANTED, _summary(entry), queue=entry.queue)]
            )
        return Granted(entry, known, rules_of(queue).is_open)


def revoke_access(
    context: Context, name: str, kind: SubjectKind, subject: str, by: Principal
) -> Granted:
    """Removes an entry and returns it, with whether users without an entry may use the queue.

    Raises `NotFoundError` (QUEUE_NOT_FOUND, ACCESS_ENTRY_NOT_FOUND) and `ForbiddenError`
    (SITE_ADMIN_REQUIRED).
    """
    with context.db.write() as tx:
        now = context.clock()
        queue = _administered(context, tx, name, by)
        known = lists.get_entry(tx, name, kind, subject)
        if known is None:
            raise NotFoundError(
                "ACCESS_ENTRY_NOT_FOUND",
                f"the list of queue {name!r} has no entry for {kind.value} {subject}".rstrip()
                + f"; `pandawn access show {name}` lists its entries",
                metadata={"queue": name},
            )
        lists.delete_entry(tx, name, kind, subject)
        text = f"{name_of(by)} revoked the entry: {known}"
        events.insert_events(tx, [Event(now, EventKind.ACCESS_REVOKED, text, queue=name)])
        return Granted(known, known, rules_of(queue).is_open)


def list_access(
    context: Context, name: str, after: tuple[str, str] | None, limit: int, by: Principal
) -> tuple[list[AccessEntry], bool]:
    """Up to `limit` entries of a queue's list after (kind, subject), and whether users without an entry may use it.

    Raises `NotFoundError` (QUEUE_NOT_FOUND) and `ForbiddenError` (SITE_ADMIN_REQUIRED): lists are confidential.
    """
    with context.db.read() as tx:
        queue = _administered(context, tx, name, by)
        return lists.list_entries(tx, name, after, limit), rules_of(queue).is_open


@dataclass(frozen=True, slots=True)
class Checked:
    """The decision of a queue's list about a user, also as a sentence, and the user's jobs there.

    `shows_entries` is False for callers who do not administer the list.
    """

    who: Identity
    decision: Decision
    sentence: str
    load: Load
    shows_entries: bool


def check_access(
    context: Context, name: str, user: str, groups: tuple[str, ...], by: Principal
) -> Checked:
    """Whether a user may use a queue, and which entry decides.

    Without `groups` the user's last stored identity is used; an empty `user` is the caller.
    Raises `NotFoundError` (QUEUE_NOT_FOUND) and, for another user, `ForbiddenError` (SITE_ADMIN_REQUIRED).
    """
    now = context.clock()
    user = user or by.name
    if not user:
        raise InvalidRequestError.of([Violation("user", "must be set")])
    with context.db.read() as tx:
        queue = _existing(context, tx, name)
        administers = by.administers(queue.site)
        if by.name == user and not groups:
            who = Identity.of(by)
        elif administers:
            seen = lists.get_identities(tx, [user]).get(user, Identity(user))
            who = replace(seen, groups=groups) if groups else seen
        else:
            raise ForbiddenError(
                "SITE_ADMIN_REQUIRED",
                f"you may check your own access only; ask the administrators of site {queue.site} about {user}",
                metadata={"queue": name, "site": queue.site},
            )
        decision = decisions(tx, [queue], who, now)[name]
        load = limits.load_of(tx, name, user)
    if administers:
        text = sentence(decision, who, name)
    else:
        text = (
            f"{user} may{'' if decision.is_allowed else ' not'} use queue {name}; "
            f"the administrators of site {queue.site} control its list"
        )
    return Checked(who, decision, text, load, shows_entries=administers)


def name_of(by: Principal) -> str:
    """The name of a caller for events; a local operator has no user name, and appears with its subject."""
    return by.name or by.subject


def _existing(context: Context, tx: Transaction, name: str) -> Queue:
    queue = context.config.queue(tx, name, context.clock())
    if queue is None:
        raise queue_not_found(name)
    return queue


def _administered(context: Context, tx: Transaction, name: str, by: Principal) -> Queue:
    queue = _existing(context, tx, name)
    require_sites(by, [queue.site], f"the access list of queue {name!r}")
    return queue


def _is_same(one: AccessEntry, other: AccessEntry) -> bool:
    return one == replace(other, granted_by=one.granted_by, grant_time=one.grant_time)


def _summary(entry: AccessEntry) -> str:
    terms = [
        f"{name} {value}"
        for name, value in (
            ("running", entry.max_running),
            ("waiting", entry.max_waiting),
            ("priority", entry.priority_offset),
        )
        if value is not None
    ]
    until = "" if entry.expire_time is None else f" until {entry.expire_time:%Y-%m-%d %H:%M} UTC"
    return f"{entry.granted_by} wrote the entry: {entry}{until}" + (
        f" ({', '.join(terms)})" if terms else ""
    )


def _violations(entry: AccessEntry, now: datetime) -> list[Violation]:
    found = []
    if (entry.kind is SubjectKind.EVERYBODY) == bool(entry.subject):
        found.append(
            Violation(
                "entry.subject",
                "must be set" if not entry.subject else "must not be set for everybody",
            )
        )
    if entry.expire_time is not None and entry.expire_time <= now:
        found.append(Violation("entry.expire_time", "is in the past"))
    if entry.effect is Effect.DENY:
        found += [
            Violation(f"entry.{name}", "must not be set in a deny entry")
            for name in ("max_running", "max_waiting", "priority_offset")
            if getattr(entry, name) is not None
        ]
    return found
