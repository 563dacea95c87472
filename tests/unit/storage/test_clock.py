from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pandawn_server.storage.clock import DatabaseClock
from tests.fixtures.clock import NOON, SettableClock

SECOND = timedelta(seconds=1)


class Ticks:
    """A clock that nobody sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Machine:
    """A machine whose clock can be set, and a database of which it hears after a while."""

    def __init__(self, wall: datetime = NOON) -> None:
        self.ticks = Ticks()
        self.wall = SettableClock(wall)
        self.clock = DatabaseClock(self.ticks, self.wall)

    def hear(self, database_time: datetime, after_s: float = 0.0) -> None:
        asked = self.ticks()
        self.ticks.seconds += after_s
        self.wall.advance(after_s * SECOND)
        self.clock.measure(database_time, asked, self.ticks())


@pytest.mark.parametrize("ahead", [timedelta(minutes=15), -timedelta(hours=1), timedelta(0)])
def test_the_time_is_the_databases_wherever_the_machines_clock_stands(ahead: timedelta) -> None:
    machine = Machine(NOON + ahead)
    machine.hear(NOON)
    assert machine.clock() == NOON
    assert machine.clock.machine_is_ahead() == ahead


@pytest.mark.parametrize("step", [timedelta(hours=1), -timedelta(hours=1)])
def test_a_step_of_the_machines_clock_changes_nothing_but_how_far_it_is_ahead(
    step: timedelta,
) -> None:
    machine = Machine()
    machine.hear(NOON)
    machine.wall.advance(step)
    assert machine.clock() == NOON
    machine.hear(NOON)
    assert machine.clock() == NOON
    assert machine.clock.machine_is_ahead() == step


def test_between_two_measurements_time_goes_on() -> None:
    machine = Machine()
    machine.hear(NOON)
    machine.ticks.seconds += 90
    assert machine.clock() == NOON + 90 * SECOND


def test_a_slow_answer_that_agrees_moves_nothing() -> None:
    machine = Machine()
    machine.hear(NOON)
    # Asked at noon and answered 4 s later: the database may have read its clock at any time between.
    machine.hear(NOON + SECOND, after_s=4.0)
    assert machine.clock() == NOON + 4 * SECOND


def test_what_a_slow_answer_rules_out_is_mended() -> None:
    machine = Machine()
    machine.hear(NOON)
    # After a failover, say, the database's clock is another.
    machine.hear(NOON + 60 * SECOND, after_s=2.0)
    assert NOON + 60 * SECOND <= machine.clock() <= NOON + 62 * SECOND


def test_a_machine_that_was_paused_without_its_ticks_learns_the_time_by_the_next_transaction() -> (
    None
):
    machine = Machine()
    machine.hear(NOON)
    machine.hear(NOON + timedelta(minutes=10))
    assert machine.clock() == NOON + timedelta(minutes=10)


def test_before_the_first_measurement_it_is_the_machines_time() -> None:
    assert Machine(NOON + SECOND).clock() == NOON + SECOND
