"""Answers given to requests, so that a repeated one gets the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from pandawn_server.domain.errors import ConflictError
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.upkeep_schema import requests


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request made: `task_id` is the task that it is about, 0 for none.

    `numbers` is what else the answer needs, as the use case has it: new jobs, files forgotten.
    """

    task_id: int
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A user's request, by the identifier that the user drew; `fingerprint` digests what it asks for."""

    user: str
    request_id: str
    fingerprint: str

    @property
    def stored(self) -> str:
        """The name under which the answer is stored: two users may draw the same, and neither has a space in it."""
        return f"{self.user} {self.request_id}"


def get_answer(tx: Transaction, key: RequestKey) -> Answer | None:
    """The answer given to a request before, if any.

    Raises `ConflictError` (REQUEST_ID_REUSED) if that was another request.
    """
    query = select(requests).where(requests.c.request_id == key.stored)
    row = tx.execute(query).mappings().first()
    if row is None:
        return None
    if row["fingerprint"] != key.fingerprint:
        raise ConflictError(
            "REQUEST_ID_REUSED",
            f"request_id {key.request_id!r} was used for another request; draw a new one for each",
            metadata={"request_id": key.request_id},
        )
    return Answer(row["task_id"], tuple(row["numbers"]))


def insert_answer(tx: Transaction, key: RequestKey, answer: Answer, now: datetime) -> None:
    """Stores an answer."""
    tx.execute(
        insert(requests).values(
            request_id=key.stored,
            fingerprint=key.fingerprint,
            task_id=answer.task_id,
            numbers=list(answer.numbers),
            create_time=now,
        )
    )
