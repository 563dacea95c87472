"""Calls that are lists themselves, joined into one list for their use case and parted again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_one(
    calls: Sequence[Sequence[Item]], run: Callable[[list[Item]], Sequence[Answer]]
) -> list[list[Answer]]:
    """Runs all items of all calls at once; returns for each call its answers, in its order."""
    answers = iter(run([item for call in calls for item in call]))
    return [list(islice(answers, len(call))) for call in calls]
