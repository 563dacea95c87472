"""The access lists of queues, and the last identities of users."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, and_, delete, func, insert, or_, select, tuple_, update

from pandawn_server.domain.access.lists import AccessEntry, Effect, Identity, SubjectKind
from pandawn_server.domain.access.principals import Method
from pandawn_server.storage.access.schema import queue_access, users
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction


def _to_entry(row: RowMapping) -> AccessEntry:
    return AccessEntry(
        queue=row["queue"],
        kind=SubjectKind(row["kind"]),
        subject=row["subject"],
        effect=Effect(row["effect"]),
        granted_by=row["granted_by"],
        grant_time=row["grant_time"],
        message=row["message"],
        expire_time=row["expire_time"],
        max_running=row["max_running"],
        max_waiting=row["max_waiting"],
        priority_offset=row["priority_offset"],
    )


def _to_row(entry: AccessEntry) -> dict[str, Any]:
    return {
        "queue": entry.queue,
        "kind": entry.kind.value,
        "subject": entry.subject,
        "effect": entry.effect.value,
        "granted_by": entry.granted_by,
        "grant_time": entry.grant_time,
        "message": entry.message,
        "expire_time": entry.expire_time,
        "max_running": entry.max_running,
        "max_waiting": entry.max_waiting,
        "priority_offset": entry.priority_offset,
    }


def _is(queue: str, kind: SubjectKind, subject: str) -> Any:  # noqa: ANN401 (an expression)
    return and_(
        queue_access.c.queue == queue,
        queue_access.c.kind == kind.value,
        queue_access.c.subject == subject,
    )


def get_entry(tx: Transaction, queue: str, kind: SubjectKind, subject: str) -> AccessEntry | None:
    """The entry of a subject in the list of a queue, locked until the end of the transaction."""
    query = select(queue_access).where(_is(queue, kind, subject)).with_for_update()
    row = tx.execute(query).mappings().first()
    return None if row is None else _to_entry(row)


def put_entry(tx: Transaction, entry: AccessEntry, *, is_new: bool) -> None:
    """Inserts an entry if it `is_new`, otherwise replaces the existing one."""
    if is_new:
        tx.execute(insert(queue_access).values(_to_row(entry)))
    else:
        place = _is(entry.queue, entry.kind, entry.subject)
        tx.execute(update(queue_access).where(place).values(_to_row(entry)))


def delete_entry(tx: Transaction, queue: str, kind: SubjectKind, subject: str) -> None:
    """Removes an entry."""
    tx.execute(delete(queue_access).where(_is(queue, kind, subject)))


def count_entries(tx: Transaction, queue: str) -> int:
    """The number of entries of a queue's list."""
    query = select(func.count()).select_from(queue_access).where(queue_access.c.queue == queue)
    return tx.execute(query).scalar_one()


def list_entries(
    tx: Transaction, queue: str, after: tuple[str, str] | None, limit: int
) -> list[AccessEntry]:
    """Up to `limit` entries of a queue's list after (kind, subject), in that order."""
    query = (
        select(queue_access)
        .where(queue_access.c.queue == queue)
        .order_by(queue_access.c.kind, queue_access.c.subject)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(queue_access.c.kind, queue_access.c.subject) > after)
    return [_to_entry(row) for row in tx.execute(query).mappings()]


def entries_about(
    tx: Transaction, names: Collection[str], user: str
) -> dict[str, list[AccessEntry]]:
    """By queue, the entries that may match a user: all except those for other users."""
    about: dict[str, list[AccessEntry]] = {name: [] for name in names}
    of_others = and_(queue_access.c.kind == SubjectKind.USER.value, queue_access.c.subject != user)
    query = select(queue_access).where(among(tx, queue_access.c.queue, names), ~of_others)
    for row in tx.execute(query).mappings():
        about[row["queue"]].append(_to_entry(row))
    return about


def queues_with_limits(tx: Transaction, now: datetime) -> set[str]:
    """Queues whose lists have a valid entry with a limit of running jobs."""
    is_valid = or_(queue_access.c.expire_time.is_(None), queue_access.c.expire_time > now)
    query = select(queue_access.c.queue).where(queue_access.c.max_running > 0, is_valid).distinct()
    return set(tx.execute(query).scalars())


def get_identities(tx: Transaction, names: Sequence[str]) -> dict[str, Identity]:
    """The last identities of users, by name; users never seen are omitted."""
    query = select(users).where(among(tx, users.c.user, names))
    return {
        row["user"]: Identity(
            row["user"], tuple(row["groups"]), Method(row["method"]), row["subject"]
        )
        for row in tx.execute(query).mappings()
    }


def record_identity(tx: Transaction, who: Identity, now: datetime) -> None:
    """Stores the identity of a user, if it differs from the stored one."""
    assert who.method is not None, "an identity without a credential is only a name"
    known = get_identities(tx, [who.user]).get(who.user)
    if known == who:
        return
    seen = {
        "method": who.method.value,
        "subject": who.subject,
        "groups": list(who.groups),
        "seen_time": now,
    }
    if known is None:
        tx.execute(insert(users).values(user=who.user, **seen))
    else:
        tx.execute(update(users).where(users.c.user == who.user).values(**seen))
