"""Joins calls that are lists into one list for their use case, and splits the answers again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_one(
    calls: Sequence[Sequence[Item]], run: Callable[[list[Item]], Sequence[Answer]]
) -> list[list[Answer]]:
    """Runs the items of all calls at once; returns each call's answers, in order."""
    answers = iter(run([item for call in calls for item in call]))
    return [list(islice(answers, len(call))) for call in calls]
