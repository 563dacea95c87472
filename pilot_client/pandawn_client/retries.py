"""Repeating calls that fail for a time: full jitter, so that pilots do not come back in step."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pandawn_client.client import CallError
from pandawn_client.contact import Contact
from pandawn_client.stop import Stop

# The first pause is at most this, and each next one may be twice as long ...
BASE_SECONDS = 0.2
# ... up to this.
CAP_SECONDS = 30.0

ResultT = TypeVar("ResultT")

if TYPE_CHECKING:
    Log = logging.LoggerAdapter[logging.Logger]
else:
    Log = logging.LoggerAdapter


class Backoff:
    """Pauses between tries, uniform between 0 and a bound that doubles from BASE to CAP."""

    def __init__(self, cap_seconds: float = CAP_SECONDS) -> None:
        self._cap = cap_seconds
        self._bound = BASE_SECONDS

    def next_pause(self, failure: CallError | None = None) -> float:
        """The next pause in seconds; never shorter than what the server asked for."""
        pause = random.uniform(0, min(self._bound, self._cap))
        self._bound = min(self._bound * 2, self._cap)
        asked = failure.retry_after if failure is not None else None
        return (asked or 0.0) + pause


def persist(
    attempt: Callable[[], ResultT],
    what: str,
    log: Log,
    *,
    stop: Stop,
    give_up_after: float | None = None,
    contact: Contact | None = None,
) -> ResultT:
    """Repeats `attempt` while it fails for a time; returns what it returns.

    With `contact` a pause ends when another call finds that the server is back.

    Raises CallError when the server refuses for good or `give_up_after` seconds have passed, and
    StoppedError when `stop` is set. An outage is logged when it begins and when it ends, not at
    each try.
    """
    backoff = Backoff()
    begin = time.monotonic()
    failures = 0
    while True:
        try:
            result = attempt()
        except CallError as failure:
            if not failure.transient:
                raise
            waited = time.monotonic() - begin
            if give_up_after is not None and waited >= give_up_after:
                raise
            failures += 1
            if failures == 1:
                log.warning("%s failed, trying again: %s", what, failure)
            pause = backoff.next_pause(failure)
            if contact is None:
                stop.wait(pause)
            else:
                contact.pause(stop, pause, failure.retry_after or 0.0)
            stop.check()
        else:
            if failures:
                log.info(
                    "%s succeeded after %d failures in %.1f s",
                    what,
                    failures,
                    time.monotonic() - begin,
                )
            return result
