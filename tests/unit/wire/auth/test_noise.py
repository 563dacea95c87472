"""However much garbage comes in place of handshakes, the log has a line an interval."""

from __future__ import annotations

import structlog

from pandawn_server.wire.auth.noise import LOG_INTERVAL_S, MAX_ADDRESSES, HandshakeNoise


def test_the_first_failure_is_told_at_once_and_the_others_together() -> None:
    now_s = 0.0
    noise = HandshakeNoise(lambda: now_s)
    with structlog.testing.capture_logs() as lines:
        noise.record("10.0.0.1", "first")
        for number in range(3 * MAX_ADDRESSES):
            noise.record(f"10.0.{number // 256}.{number % 256}", "flood")
        for _ in range(10):
            noise.record("10.0.0.9", "again")
        now_s = LOG_INTERVAL_S
        noise.record("10.0.0.1", "last")
    assert [line["count"] for line in lines] == [1, 3 * MAX_ADDRESSES + 11]
    assert lines[1]["addresses"] == MAX_ADDRESSES
    assert next(iter(lines[1]["most"].items())) == ("10.0.0.9", 11)
