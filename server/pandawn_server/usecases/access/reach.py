"""Lists within a caller's reach: its own work, and the work on the queues of its sites.

Each part is read with its own index, one page each, and the pages are merged. A single query for *mine or my
sites'* would sort everything that all these users ever submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from pandawn_server.domain.access.ownership import Reach
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues import queues
from pandawn_server.usecases.access.authority import other_user

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A filter on user and queue; an empty field matches all."""

    user: str
    queue: str


def parts_within(tx: Transaction, reach: Reach, user: str, queue: str) -> list[Part]:
    """The parts of a request's filter that are within a caller's reach; they may overlap.

    Raises `ForbiddenError` (NOT_YOUR_TASK) if the filter selects only work outside of the reach.
    """
    if reach.everything:
        return [Part(user, queue)]
    names = queues.names_of_sites(tx, reach.sites)
    if queue in names:
        return [Part(user, queue)]
    parts = []
    if reach.user and user in {"", reach.user}:
        parts.append(Part(reach.user, queue))
    if not queue:
        parts += [Part(user, name) for name in names]
    elif not parts:
        raise other_user(user)
    if user not in {"", reach.user} and not names:
        raise other_user(user)
    return parts


def merged(
    found: Iterable[Iterable[T]], key: Callable[[T], int], limit: int, *, descending: bool
) -> list[T]:
    """Merges lists by the number that identifies each item; returns the first `limit` items."""
    by_key = {key(item): item for part in found for item in part}
    return [by_key[number] for number in sorted(by_key, reverse=descending)[:limit]]
