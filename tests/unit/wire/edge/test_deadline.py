"""Waits end before the caller hangs up."""

from datetime import timedelta

import pytest

from pandawn_server.wire.edge.deadline import REPLY_MARGIN, time_to_wait


class Caller:
    """A call with so many seconds left."""

    def __init__(self, remaining: float | None) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining


WISHED = timedelta(seconds=20)


@pytest.mark.parametrize(
    ("remaining", "waits"),
    [
        (None, WISHED),
        (60.0, WISHED),
        (10.0, timedelta(seconds=10) - REPLY_MARGIN),
        (0.1, timedelta(0)),
        (0.0, timedelta(0)),
    ],
)
def test_a_wait_leaves_time_for_the_reply(remaining: float | None, waits: timedelta) -> None:
    assert time_to_wait(Caller(remaining), WISHED) == waits
