"""Which refusals were told already: somebody who tries again and again shall not fill the table of events."""

from __future__ import annotations

from datetime import datetime, timedelta

TOLD_AGAIN_AFTER = timedelta(minutes=10)
"""Time for which a refusal is no news."""

MAX_TOLD = 200
"""Refusals told in that time, whatever they are about; the log has the others."""


class Refusals:
    """What this process has told."""

    def __init__(self) -> None:
        self._told: dict[str, datetime] = {}

    def is_news(self, about: str, now: datetime) -> bool:
        """Whether to tell it now; takes down that it was told."""
        oldest = now - TOLD_AGAIN_AFTER
        told = self._told.get(about)
        if told is not None and told > oldest:
            return False
        self._told = {key: time for key, time in self._told.items() if time > oldest}
        if len(self._told) >= MAX_TOLD:
            return False
        self._told[about] = now
        return True
