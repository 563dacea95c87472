"""Spans of time on machines that stand still, and whose clocks are set."""

from __future__ import annotations

import time

import pytest

from pandawn_pilot.node import clock


class Clocks:
    """The clocks of a machine that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic = self.boot = 1000.0
        self.wall = 1_700_000_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "clock_gettime", lambda _which: self.boot)

    def tick(self, seconds: float) -> None:
        self.monotonic += seconds
        self.boot += seconds
        self.wall += seconds


def test_a_wall_clock_that_is_set_moves_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, jumps, begin = Clocks(monkeypatch), clock.Jumps(), clock.now()
    clocks.tick(10)
    for step in (7200.0, -7200.0):
        clocks.wall += step
        assert jumps.look() == pytest.approx(step), "it is noticed, and the server asked"
    assert clock.now() - begin == 10


def test_a_suspended_machine_has_used_its_time_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks, jumps, begin = Clocks(monkeypatch), clock.Jumps(), clock.now()
    clocks.boot += 3600
    clocks.wall += 3600
    assert jumps.look() == pytest.approx(3600)
    assert clock.now() - begin == 3600


def test_clocks_that_tick_alike_have_not_jumped(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, jumps = Clocks(monkeypatch), clock.Jumps()
    clocks.tick(86400)
    assert jumps.look() == 0
