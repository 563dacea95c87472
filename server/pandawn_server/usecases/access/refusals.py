"""Limits the events about refusals: a caller that retries forever must not fill the table of events."""

from __future__ import annotations

from datetime import datetime, timedelta

REPEAT_AFTER = timedelta(minutes=10)
"""After this time an event about the same refusal is written again."""

MAX_RECORDED = 200
"""The largest number of events about refusals in that time; the log has all of them."""


class Refusals:
    """The refusals for which this process has written an event."""

    def __init__(self) -> None:
        self._recorded: dict[str, datetime] = {}

    def is_new(self, about: str, now: datetime) -> bool:
        """Whether to write an event about a refusal now; if so, it is remembered as recorded."""
        oldest = now - REPEAT_AFTER
        recorded = self._recorded.get(about)
        if recorded is not None and recorded > oldest:
            return False
        self._recorded = {key: time for key, time in self._recorded.items() if time > oldest}
        if len(self._recorded) >= MAX_RECORDED:
            return False
        self._recorded[about] = now
        return True
