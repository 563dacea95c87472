"""Sandboxes: users' code, stored in chunks under the checksum of the archive."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, insert, select, update

from pandawn_server.domain.access.principals import Session
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases.schema import leases, pilots
from pandawn_server.storage.tasks.schema import (
    jobs,
    sandbox_chunks,
    sandbox_owners,
    sandboxes,
    tasks,
)


def known_sandboxes(tx: Transaction, sandbox_ids: Collection[str]) -> set[str]:
    """Returns those of `sandbox_ids` that are stored."""
    query = select(sandboxes.c.sandbox_id).where(among(tx, sandboxes.c.sandbox_id, sandbox_ids))
    return set(tx.execute(query).scalars())


def sandboxes_of(tx: Transaction, user: str, sandbox_ids: Collection[str]) -> set[str]:
    """Returns those of `sandbox_ids` that a user uploaded."""
    query = select(sandbox_owners.c.sandbox_id).where(
        among(tx, sandbox_owners.c.sandbox_id, sandbox_ids), sandbox_owners.c.user == user
    )
    return set(tx.execute(query).scalars())


def keep(tx: Transaction, sandbox_id: str) -> bool:
    """Keeps a sandbox from being deleted before the end of the transaction; False if it does not exist."""
    query = select(sandboxes.c.sandbox_id).where(sandboxes.c.sandbox_id == sandbox_id)
    return tx.execute(query.with_for_update(read=True, key_share=True)).first() is not None


def record_upload(tx: Transaction, sandbox_id: str, now: datetime) -> None:
    """Records a repeated upload of a stored sandbox, so that it is not deleted as unused."""
    tx.execute(
        update(sandboxes).where(sandboxes.c.sandbox_id == sandbox_id).values(create_time=now)
    )


def bytes_of(tx: Transaction, user: str) -> int:
    """Returns the size in bytes of all sandboxes of a user; a shared one counts for each of its owners."""
    query = (
        select(func.coalesce(func.sum(sandboxes.c.size_bytes), 0))
        .join(sandbox_owners, sandbox_owners.c.sandbox_id == sandboxes.c.sandbox_id)
        .where(sandbox_owners.c.user == user)
    )
    return int(tx.execute(query).scalar_one())


def add_owner(tx: Transaction, sandbox_id: str, user: str) -> None:
    """Records a user as an owner of a stored sandbox."""
    if sandbox_id not in sandboxes_of(tx, user, [sandbox_id]):
        tx.execute(insert(sandbox_owners).values(sandbox_id=sandbox_id, user=user))


def insert_sandbox(
    tx: Transaction, sandbox_id: str, size_bytes: int, chunks: Sequence[bytes], now: datetime
) -> None:
    """Stores a new sandbox."""
    tx.execute(
        insert(sandboxes).values(sandbox_id=sandbox_id, size_bytes=size_bytes, create_time=now)
    )
    tx.execute(
        insert(sandbox_chunks),
        [
            {"sandbox_id": sandbox_id, "position": position, "chunk": chunk}
            for position, chunk in enumerate(chunks)
        ],
    )


def is_needed(tx: Transaction, sandbox_id: str, session: Session) -> bool:
    """Whether a job leased to a pilot of the session's node and queue uses the sandbox."""
    query = (
        select(leases.c.job_id)
        # Starts at the few pilots of the node and their leases, which have indexes.
        .join(pilots, pilots.c.pilot_id == leases.c.pilot_id)
        .join(jobs, jobs.c.job_id == leases.c.job_id)
        .join(tasks, tasks.c.task_id == jobs.c.task_id)
        .where(
            pilots.c.site == session.key.site,
            pilots.c.node == session.key.node,
            pilots.c.queue == session.queue,
            tasks.c.sandbox_id == sandbox_id,
        )
        .limit(1)
    )
    return tx.execute(query).first() is not None


def get_chunk(tx: Transaction, sandbox_id: str, position: int) -> bytes | None:
    """Returns one chunk of a sandbox; None after the last one."""
    query = select(sandbox_chunks.c.chunk).where(
        sandbox_chunks.c.sandbox_id == sandbox_id, sandbox_chunks.c.position == position
    )
    return tx.execute(query).scalar()
