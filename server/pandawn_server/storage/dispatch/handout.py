"""Hands out many jobs at once: claim, lease, attempt and event.

This is the core of the hot path. PostgreSQL does it in one statement. SQLite lacks such a statement and has
no network in between, so it uses several.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple, get_type_hints

from sqlalchemy import delete, select, text

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.attempts import Match, NewAttempt
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.tasks.jobs import JobKind, JobState, check_step
from pandawn_server.domain.tasks.tasks import File
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction, effects_of
from pandawn_server.storage.leases import attempts, leases
from pandawn_server.storage.leases.leases import NewLease
from pandawn_server.storage.leases.schema import attempts as attempts_table
from pandawn_server.storage.leases.schema import leases as leases_table
from pandawn_server.storage.monitor import events
from pandawn_server.storage.monitor.schema import events as events_table
from pandawn_server.storage.tasks import job_moves
from pandawn_server.storage.tasks.files import unpack
from pandawn_server.storage.tasks.schema import job_inputs, jobs


class Offer(NamedTuple):
    """A job to be given to a pilot, and why; `text` is the explanation in words.

    `granted` is how many leases the call has already; `expire_time` and `duration` belong to the lease.
    """

    match: Match
    token: str
    pilot_id: str
    key: NodeKey
    request_id: str
    granted: int
    expire_time: datetime
    duration: timedelta
    queue: str
    queue_revision: int
    text: str


@dataclass(frozen=True, slots=True)
class HandedJob:
    """What a pilot must know of a job beyond its task; `files` are its own inputs."""

    job_id: int
    attempt: int
    task_id: int
    index: int
    kind: JobKind
    user: str
    files: tuple[File, ...]


def hand_out(tx: Transaction, offers: Sequence[Offer], now: datetime) -> dict[int, HandedJob]:
    """Gives those of the jobs to pilots that are still runnable; returns them by identifier.

    The compare-and-set on the state makes matching safe, however stale its view was.
    """
    if not offers:
        return {}
    if tx.dialect.name == "sqlite":
        return _in_steps(tx, offers, now)
    return _at_once(tx, offers, now)


def take_back(tx: Transaction, handed: Sequence[tuple[Offer, HandedJob]], now: datetime) -> None:
    """Undoes hand-outs of the same transaction, leaving no trace of them."""
    for offer, job in handed:
        tx.execute(delete(leases_table).where(leases_table.c.job_id == job.job_id))
        for table in (attempts_table, events_table):
            tx.execute(
                delete(table).where(table.c.job_id == job.job_id, table.c.attempt == job.attempt)
            )
        tx.execute(
            job_moves.step(JobState.SENT, JobState.ACTIVATED)
            .where(jobs.c.job_id == job.job_id)
            .values(
                attempt=job.attempt - 1,
                # When it became runnable, so that it keeps its age.
                state_time=now - offer.match.waited,
            )
        )
    undone = {(job.job_id, job.attempt) for _, job in handed}
    effects = effects_of(tx)
    effects.events[:] = [e for e in effects.events if (e.job_id, e.attempt) not in undone]


def read_handed(tx: Transaction, job_ids: Collection[int]) -> dict[int, HandedJob]:
    """Reads jobs that were given out before, by identifier."""
    if not job_ids:
        return {}
    query = (
        select(
            jobs.c.job_id,
            jobs.c.attempt,
            jobs.c.task_id,
            jobs.c.index,
            jobs.c.kind,
            jobs.c.user,
            job_inputs.c.files,
        )
        .outerjoin(job_inputs, job_inputs.c.job_id == jobs.c.job_id)
        .where(among(tx, jobs.c.job_id, job_ids))
    )
    return {row[0]: _handed(*row) for row in tx.execute(query)}


def _handed(
    job_id: int,
    attempt: int,
    task_id: int,
    index: int,
    kind: str,
    user: str,
    files: list[list[str | int]] | None,
) -> HandedJob:
    return HandedJob(
        job_id, attempt, task_id, index, JobKind(kind), user, tuple(map(unpack, files or ()))
    )


def _in_steps(tx: Transaction, offers: Sequence[Offer], now: datetime) -> dict[int, HandedJob]:
    won = job_moves.claim(tx, {offer.match.job_id for offer in offers}, now)
    handed = read_handed(tx, won)
    mine = [(offer, handed[offer.match.job_id]) for offer in offers if offer.match.job_id in won]
    ordinals: dict[tuple[str, str], Iterator[int]] = {}
    leases.insert_leases(
        tx,
        [
            NewLease(
                job.job_id,
                job.attempt,
                offer.token,
                offer.pilot_id,
                offer.key,
                offer.request_id,
                next(ordinals.setdefault((offer.pilot_id, offer.request_id), count(offer.granted))),
                offer.expire_time,
                offer.duration,
            )
            for offer, job in mine
        ],
    )
    attempts.insert_attempts(
        tx,
        [
            NewAttempt(
                job.job_id,
                job.attempt,
                job.task_id,
                offer.pilot_id,
                offer.key,
                offer.token,
                offer.match,
                offer.queue_revision,
            )
            for offer, job in mine
        ],
        now,
    )
    events.insert_events(tx, [_event(offer, job, now) for offer, job in mine])
    return handed


def _event(offer: Offer, job: HandedJob, now: datetime) -> Event:
    return Event(
        now,
        EventKind.JOB_SENT,
        f"attempt {job.attempt}: {offer.text}",
        task_id=job.task_id,
        job_id=job.job_id,
        attempt=job.attempt,
        queue=offer.queue,
        node=offer.key.node,
        pilot_id=offer.pilot_id,
        user=job.user,
    )


class _Asked(NamedTuple):
    """A row of `asked` below: the stored fields of an offer, as JSON types."""

    job_id: int
    token: str
    pilot_id: str
    site: str
    node: str
    request_id: str
    granted: int
    expire_time: str
    duration_s: float
    queue: str
    explanation: str
    locality: str
    rule: str
    input_bytes: int
    local_bytes: int
    candidates: int
    held: int
    waited_s: float
    queue_revision: int


_SQL_TYPES = {int: "bigint", float: "double precision", str: "text"}
_ASKED = ", ".join(
    f"CAST(r ->> {place} AS {'timestamptz' if name.endswith('_time') else _SQL_TYPES[kind]}) AS {name}"
    for place, (name, kind) in enumerate(get_type_hints(_Asked).items())
)

check_step([JobState.ACTIVATED], JobState.SENT)

# One statement, to save round trips. Only constants of this module are formatted into it, hence the noqa.
_AT_ONCE = text(
    f"""
    -- As jsonb: with json, reading each field would parse the row from its beginning again.
    WITH asked AS MATERIALIZED (
        SELECT {_ASKED}, place
        FROM jsonb_array_elements(CAST(:offers AS jsonb)) WITH ORDINALITY AS o (r, place)
    -- Skips rows that another transaction is claiming: waiting would only find that they are gone, and two
    -- transactions that wait for each other would deadlock.
    ), free AS MATERIALIZED (
        SELECT jobs.job_id FROM jobs
        WHERE jobs.job_id = ANY(ARRAY(SELECT asked.job_id FROM asked)) AND jobs.state = :runnable
        ORDER BY jobs.job_id
        FOR NO KEY UPDATE SKIP LOCKED
    -- The compare-and-set: these rows are locked, and their state was read under the lock.
    ), claimed AS (
        UPDATE jobs SET state = :sent, attempt = jobs.attempt + 1, state_time = :now
        WHERE jobs.job_id = ANY(ARRAY(SELECT free.job_id FROM free))
        RETURNING jobs.job_id, jobs.attempt, jobs.task_id, jobs."index", jobs.kind, jobs."user"
    -- The leases of a call are numbered without gaps. When two processes serve one call at a time, both use the
    -- same number, and one of them fails.
    ), leased AS (
        INSERT INTO leases (job_id, attempt, token, pilot_id, site, node, request_id, ordinal,
            expire_time, duration_s)
        SELECT job_id, c.attempt, token, pilot_id, site, node, request_id,
            granted - 1 + row_number() OVER (PARTITION BY pilot_id, request_id ORDER BY place),
            expire_time, duration_s
        FROM claimed AS c JOIN asked USING (job_id)
    -- Why the job went there, stored for good: `pandawn why` reads it long after the lease has ended.
    ), tried AS (
        INSERT INTO attempts (job_id, attempt, task_id, pilot_id, site, node, lease_token,
            start_time, locality, rule, match_input_bytes, match_local_bytes, match_candidates,
            match_held, match_waited_s, queue_revision)
        SELECT job_id, c.attempt, c.task_id, pilot_id, site, node, token, :now, locality, rule,
            input_bytes, local_bytes, candidates, held, waited_s, queue_revision
        FROM claimed AS c JOIN asked USING (job_id)
    -- The same event that `_event` makes.
    ), recorded AS (
        INSERT INTO events (event_time, kind, text, task_id, job_id, attempt, queue, node,
            pilot_id, "user")
        SELECT :now, :kind, concat('attempt ', c.attempt, ': ', explanation), c.task_id, job_id,
            c.attempt, queue, node, pilot_id, c."user"
        FROM claimed AS c JOIN asked USING (job_id)
    )
    SELECT c.job_id, c.attempt, c.task_id, c."index", c.kind, c."user", i.files
    FROM claimed AS c LEFT JOIN job_inputs AS i USING (job_id)
    """  # noqa: S608
)


def _at_once(tx: Transaction, offers: Sequence[Offer], now: datetime) -> dict[int, HandedJob]:
    rows = [
        _Asked(
            job_id=offer.match.job_id,
            token=offer.token,
            pilot_id=offer.pilot_id,
            site=offer.key.site,
            node=offer.key.node,
            request_id=offer.request_id,
            granted=offer.granted,
            expire_time=offer.expire_time.isoformat(),
            duration_s=offer.duration.total_seconds(),
            queue=offer.queue,
            explanation=offer.text,
            locality=offer.match.locality.value,
            rule=offer.match.rule.value,
            input_bytes=offer.match.input_bytes,
            local_bytes=offer.match.local_bytes,
            candidates=offer.match.candidates,
            held=offer.match.held,
            waited_s=offer.match.waited.total_seconds(),
            queue_revision=offer.queue_revision,
        )
        for offer in offers
    ]
    found = tx.execute(
        _AT_ONCE,
        {
            "offers": json.dumps(rows, check_circular=False),
            "now": now,
            "kind": EventKind.JOB_SENT,
            "runnable": JobState.ACTIVATED.value,
            "sent": JobState.SENT.value,
        },
    )
    handed = {row[0]: _handed(*row) for row in found}
    effects_of(tx).events += [
        _event(offer, handed[offer.match.job_id], now)
        for offer in offers
        if offer.match.job_id in handed
    ]
    return handed
