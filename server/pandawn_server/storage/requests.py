"""Stored answers to requests, so that a repeated request gets the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from pandawn_server.domain.errors import ConflictError
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.upkeep_schema import requests


@dataclass(frozen=True, slots=True)
class Answer:
    """The stored answer to a request; `task_id` is its task, 0 for none.

    `numbers` are other parts of the answer, defined by the use case, such as the number of new jobs.
    """

    task_id: int
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A user's request, by the identifier that the user chose; `fingerprint` is a digest of its content."""

    user: str
    request_id: str
    fingerprint: str

    @property
    def stored(self) -> str:
        """The key of the stored answer. Two users may choose the same identifier; neither part contains a space."""
        return f"{self.user} {self.request_id}"


def get_answer(tx: Transaction, key: RequestKey) -> Answer | None:
    """The stored answer to a request; None if there is none.

    Raises `ConflictError` (REQUEST_ID_REUSED) if it belongs to a different request.
    """
    query = select(requests).where(requests.c.request_id == key.stored)
    row = tx.execute(query).mappings().first()
    if row is None:
        return None
    if row["fingerprint"] != key.fingerprint:
        raise ConflictError(
            "REQUEST_ID_REUSED",
            f"request_id {key.request_id!r} was used for another request; choose a new one for each",
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
