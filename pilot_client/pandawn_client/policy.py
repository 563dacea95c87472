"""The retry policy: which failures are transient, how long each kind of caller retries, and its pauses.

| status                                | retry  | why                                                   |
|---------------------------------------|--------|-------------------------------------------------------|
| UNAVAILABLE                           | yes    | the server restarts, or its database does             |
| DEADLINE_EXCEEDED                     | yes    | it is slow, or the connection is dead                 |
| CANCELLED                             | yes    | the server is shutting down                            |
| INTERNAL, UNKNOWN                     | yes    | an error of the server, which a restart may fix       |
| RESOURCE_EXHAUSTED with a time        | yes    | overload; without a time it is a limit: no            |
| UNAUTHENTICATED                       | yes*   | *only for callers with a session, which open another  |
| all others, ABORTED (stale) among them| no     | the same request gets the same response               |

| caller      | retries for                           | longest pause |
|-------------|---------------------------------------|---------------|
| `COMMAND`   | 6 s: a user waits for it              | 5 s           |
| `FOLLOWER`  | 10 min: follows a task or a stream    | 5 s           |
| `DAEMON`    | for ever, or until it ends            | 30 s          |

A pause is random between 0 and a bound that doubles from 0.2 s, so that clients of one server do not retry in
step; it is added to the pause that the server requests (RetryInfo). Each try sends the same request, so its
`request_id` makes retries harmless.
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
    """How long a caller retries, in seconds (None: for ever), and its longest pause in seconds."""

    seconds: float | None
    longest_pause: float


COMMAND = Patience(6.0, 5.0)
FOLLOWER = Patience(600.0, 5.0)
DAEMON = Patience(None, 30.0)


def passes(code: grpc.StatusCode, retry_after: float | None) -> bool:
    """Whether a retry may succeed. `retry_after` is the pause in seconds that the server requests."""
    return code in _PASSING or (
        code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after is not None
    )


class Backoff:
    """The pauses between the tries of one call."""

    def __init__(self, longest_pause: float = DAEMON.longest_pause) -> None:
        self._longest = longest_pause
        self._bound = FIRST_PAUSE_SECONDS

    def next_pause(self, retry_after: float | None = None) -> float:
        """The next pause in seconds; at least `retry_after`."""
        pause = random.uniform(0, min(self._bound, self._longest))
        self._bound = min(self._bound * 2, self._longest)
        return (retry_after or 0.0) + pause


class Tries:
    """The tries of one call; its patience starts now."""

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
