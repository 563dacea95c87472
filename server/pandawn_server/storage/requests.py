"""Answers given to submissions, so that a repeated request gets the same one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from pandawn_server.storage.database import Transaction
from pandawn_server.storage.upkeep_schema import requests


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request made: a task, and for retries the new jobs; `fingerprint` digests the request."""

    fingerprint: str
    task_id: int
    job_ids: tuple[int, ...]


def get_answer(tx: Transaction, request_id: str) -> Answer | None:
    """The answer given to a request before, if any."""
    row = tx.execute(select(requests).where(requests.c.request_id == request_id)).mappings().first()
    return (
        None if row is None else Answer(row["fingerprint"], row["task_id"], tuple(row["job_ids"]))
    )


def insert_answer(tx: Transaction, request_id: str, answer: Answer, now: datetime) -> None:
    """Stores an answer."""
    job_ids: Sequence[int] = list(answer.job_ids)
    tx.execute(
        insert(requests).values(
            request_id=request_id,
            fingerprint=answer.fingerprint,
            task_id=answer.task_id,
            job_ids=job_ids,
            create_time=now,
        )
    )
