"""The one retry policy: which failures pass, how long each kind of caller waits, and how it pauses.

| status                                | passes | why                                                   |
|---------------------------------------|--------|-------------------------------------------------------|
| UNAVAILABLE                           | yes    | the server restarts, or its database does             |
| DEADLINE_EXCEEDED                     | yes    | it is slow, or the line is dead                       |
| CANCELLED                             | yes    | the server is shutting down                            |
| INTERNAL, UNKNOWN                     | yes    | a fault of the server, which its restart may mend     |
| RESOURCE_EXHAUSTED with a time        | yes    | overload; without a time it is a limit: no            |
| UNAUTHENTICATED                       | yes*   | *only for callers with a session, which begin another |
| all others, ABORTED (stale) among them| no     | the same request gets the same answer                 |

| caller      | for how long                          | longest pause |
|-------------|---------------------------------------|---------------|
| `COMMAND`   | 6 s: somebody sits before it          | 5 s           |
| `FOLLOWER`  | 10 min: follows a task or a stream    | 5 s           |
| `DAEMON`    | for ever, or as long as it may live   | 30 s          |

A pause is drawn between 0 and a bound that doubles from 0.2 s on, so that clients of one server do not
come back in step; it begins when what the server asked for (RetryInfo) is over. A request is the same at
each try, so its `request_id` makes the repetition harmless.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import grpc

FIRST_PAUSE_SECONDS = 0.2

_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)


@dataclass(frozen=True)
class Patience:
    """How long a caller tries again, in seconds (None: for ever), and its longest pause."""

    seconds: float | None
    longest_pause: float


COMMAND = Patience(6.0, 5.0)
FOLLOWER = Patience(600.0, 5.0)
DAEMON = Patience(None, 30.0)


def passes(code: grpc.StatusCode, retry_after: float | None) -> bool:
    """Whether the same call may succeed later. `retry_after` is what the server asked for."""
    return code in _PASSING or (
        code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after is not None
    )


class Backoff:
    """The pauses between the tries of one call."""

    def __init__(self, longest_pause: float = DAEMON.longest_pause) -> None:
        self._longest = longest_pause
        self._bound = FIRST_PAUSE_SECONDS

    def next_pause(self, retry_after: float | None = None) -> float:
        """The next pause in seconds; never shorter than what the server asked for."""
        pause = random.uniform(0, min(self._bound, self._longest))
        self._bound = min(self._bound * 2, self._longest)
        return (retry_after or 0.0) + pause


class Tries:
    """The tries of one call by a caller of some patience, which begins now."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._backoff = Backoff(patience.longest_pause)
        self._begin = time.monotonic()
        self.failures = 0

    @property
    def spent(self) -> float:
        """Seconds since the first try."""
        return time.monotonic() - self._begin

    def next_pause(self, *, transient: bool, retry_after: float | None) -> float | None:
        """After a failure: the pause before the next try in seconds; None: give up."""
        if not transient:
            return None
        self.failures += 1
        pause = self._backoff.next_pause(retry_after)
        if self._patience.seconds is None:
            return pause
        left = self._patience.seconds - self.spent
        if left <= 0 or (retry_after or 0.0) > left:
            return None
        return min(pause, left)
