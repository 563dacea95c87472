"""Live leases: one row each, deleted when the attempt ends.

A transaction that changes a leased job locks its lease first. The lock order is always leases, then tasks,
then jobs, each by identifier, so that transactions cannot deadlock.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, delete, func, select, text, update

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.leases import Lease, first_lease
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Phase
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import attempts, leases, pilots
from pandawn_server.storage.tasks.schema import jobs


@dataclass(frozen=True, slots=True)
class NewLease:
    """A lease to be stored; (pilot_id, request_id, ordinal) is unique.

    `duration` is its length after a renewal; until the first one it is shorter.
    """

    job_id: int
    attempt: int
    token: str
    pilot_id: str
    key: NodeKey
    request_id: str
    ordinal: int
    expire_time: datetime
    duration: timedelta


@dataclass(frozen=True, slots=True)
class NewTerm:
    """The renewal of a lease for `duration` from now, with the job's phase."""

    lease: Lease
    phase: Phase
    duration: timedelta


def insert_leases(tx: Transaction, new: Sequence[NewLease]) -> None:
    """Stores leases of jobs that the caller has claimed."""
    columns = (
        "job_id",
        "attempt",
        "token",
        "pilot_id",
        "site",
        "node",
        "request_id",
        "ordinal",
        "expire_time",
        "duration_s",
    )
    insert_rows(
        tx,
        leases,
        columns,
        (
            (
                lease.job_id,
                lease.attempt,
                lease.token,
                lease.pilot_id,
                lease.key.site,
                lease.key.node,
                lease.request_id,
                lease.ordinal,
                lease.expire_time,
                lease.duration.total_seconds(),
            )
            for lease in new
        ),
    )


def _select_leases() -> Select[Any]:
    return select(leases, jobs.c.state, jobs.c.kind, jobs.c.task_id, jobs.c.cancel_requested).join(
        jobs, jobs.c.job_id == leases.c.job_id
    )


def _to_lease(row: RowMapping) -> Lease:
    return Lease(
        job_id=row["job_id"],
        attempt=row["attempt"],
        token=row["token"],
        pilot_id=row["pilot_id"],
        key=NodeKey(row["site"], row["node"]),
        expire_time=row["expire_time"],
        duration=timedelta(seconds=row["duration_s"]),
        phase=None if row["phase"] is None else Phase(row["phase"]),
        job_state=JobState(row["state"]),
        job_kind=JobKind(row["kind"]),
        task_id=row["task_id"],
        cancel_requested=row["cancel_requested"],
    )


def lock_leases(tx: Transaction, job_ids: Collection[int]) -> dict[int, Lease]:
    """The live leases of jobs, by job, locked until the end of the transaction."""
    if not job_ids:
        return {}
    query = (
        _select_leases()
        .where(among(tx, leases.c.job_id, job_ids))
        .order_by(leases.c.job_id)
        .with_for_update(of=leases)
    )
    return {row["job_id"]: _to_lease(row) for row in tx.execute(query).mappings()}


def lock_pilot_leases(tx: Transaction, pilot_ids: Collection[str]) -> list[Lease]:
    """The live leases of pilots, locked until the end of the transaction."""
    query = (
        _select_leases()
        .where(among(tx, leases.c.pilot_id, pilot_ids))
        .order_by(leases.c.job_id)
        .with_for_update(of=leases)
    )
    return [_to_lease(row) for row in tx.execute(query).mappings()]


def lock_lapsed(tx: Transaction, now: datetime, limit: int) -> list[Lease]:
    """Locks up to `limit` lapsed leases; skips those that another transaction has locked."""
    query = (
        _select_leases()
        .where(leases.c.expire_time <= now)
        .order_by(leases.c.job_id)
        .limit(limit)
        .with_for_update(of=leases, skip_locked=True)
    )
    return [_to_lease(row) for row in tx.execute(query).mappings()]


def get_granted(
    tx: Transaction, requests: Collection[tuple[str, str]]
) -> dict[tuple[str, str], list[NewLease]]:
    """The live leases that earlier calls with the same (pilot_id, request_id) got."""
    query = (
        select(leases)
        .where(
            # Selects by pilot first: a pilot has few leases, and there is an index.
            among(tx, leases.c.pilot_id, {pilot_id for pilot_id, _ in requests}),
            among(tx, leases.c.request_id, {request_id for _, request_id in requests}),
        )
        .order_by(leases.c.ordinal)
    )
    granted: dict[tuple[str, str], list[NewLease]] = {}
    for row in tx.execute(query).mappings():
        key = (row["pilot_id"], row["request_id"])
        if key in requests:
            granted.setdefault(key, []).append(
                NewLease(
                    job_id=row["job_id"],
                    attempt=row["attempt"],
                    token=row["token"],
                    pilot_id=row["pilot_id"],
                    key=NodeKey(row["site"], row["node"]),
                    request_id=row["request_id"],
                    ordinal=row["ordinal"],
                    expire_time=row["expire_time"],
                    duration=timedelta(seconds=row["duration_s"]),
                )
            )
    return granted


_RENEW = text(
    """
    UPDATE leases
    SET expire_time = CAST(:now AS timestamptz)
            + CAST(r ->> 2 AS double precision) * interval '1 second',
        phase = r ->> 1
    FROM json_array_elements(CAST(:renewals AS json)) AS r
    WHERE leases.job_id = CAST(r ->> 0 AS bigint)
    """
)


def renew(tx: Transaction, renewals: Sequence[NewTerm], now: datetime) -> None:
    """Extends locked leases by their new terms, and stores the phases."""
    if not renewals:
        return
    if tx.dialect.name != "sqlite":
        # One JSON parameter, because heartbeats are the most frequent call: see `storage.bulk`.
        document = json.dumps(
            [(t.lease.job_id, t.phase.value, t.duration.total_seconds()) for t in renewals]
        )
        tx.execute(_RENEW, {"renewals": document, "now": now})
        return
    tx.execute(
        update(leases)
        .where(leases.c.job_id == bindparam("b_job_id"))
        .values(expire_time=bindparam("b_expire_time"), phase=bindparam("b_phase")),
        [
            {
                "b_job_id": term.lease.job_id,
                "b_expire_time": now + term.duration,
                "b_phase": term.phase.value,
            }
            for term in renewals
        ],
    )


def was_given(tx: Transaction, job_id: int, attempt: int, token: str) -> bool:
    """Whether a job was handed out with this lease, which may have ended since."""
    query = select(attempts.c.lease_token).where(
        attempts.c.job_id == job_id, attempts.c.attempt == attempt
    )
    return bool(tx.execute(query).scalar() == token)


def delete_leases(tx: Transaction, job_ids: Collection[int]) -> None:
    """Deletes leases that the caller has locked."""
    if job_ids:
        tx.execute(delete(leases).where(among(tx, leases.c.job_id, job_ids)))


def set_terms(tx: Transaction, now: datetime, *, later: bool) -> None:
    """Extends each lease that ends earlier than it would if renewed now, to that time.

    With `later` it shortens each that ends later: its end was computed before the clock was set back.
    """
    durations = tx.execute(select(leases.c.duration_s).distinct()).scalars().all()
    for seconds in durations:
        duration = timedelta(seconds=seconds)
        for end, which in (
            (now + duration, leases.c.phase.is_not(None)),
            (now + first_lease(duration), leases.c.phase.is_(None)),
        ):
            column = leases.c.expire_time
            differs = column > end if later else column < end
            tx.execute(
                update(leases)
                .where(leases.c.duration_s == seconds, which, differs)
                .values(expire_time=end)
            )


def nodes_with_leases(tx: Transaction, keys: Collection[NodeKey]) -> set[NodeKey]:
    """Those of the nodes whose pilots have live leases."""
    if not keys:
        return set()
    # Selects by pilot, because `pilots` has the index.
    query = (
        select(pilots.c.site, pilots.c.node)
        .join(leases, leases.c.pilot_id == pilots.c.pilot_id)
        .where(
            among(tx, pilots.c.site, {key.site for key in keys}),
            among(tx, pilots.c.node, {key.node for key in keys}),
        )
        .distinct()
    )
    return {NodeKey(site, node) for site, node in tx.execute(query)} & set(keys)


def count_by_pilot(tx: Transaction, pilot_ids: Collection[str]) -> Mapping[str, int]:
    """The number of live leases by pilot; pilots without leases are omitted."""
    query = (
        select(leases.c.pilot_id, func.count())
        .where(among(tx, leases.c.pilot_id, pilot_ids))
        .group_by(leases.c.pilot_id)
    )
    return dict(tx.execute(query).all())
