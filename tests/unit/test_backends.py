from __future__ import annotations

from pathlib import Path

import pytest

from pandawn_server.backends import await_database
from pandawn_server.config import Settings
from pandawn_server.domain.errors import PreconditionError, UnavailableError
from tests.fixtures.ports import LOOPBACK, free_port


class Pauses:
    """A clock that only pauses let go on, and what somebody does in one of them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = 0

    def clock(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.count += 1


def test_a_server_that_starts_before_its_database_waits_for_it(tmp_path: Path) -> None:
    pauses = Pauses()

    def pause(seconds: float) -> None:
        pauses.pause(seconds)
        if pauses.count == 3:
            # A file system that is mounted, say.
            broken.rmdir()

    broken = tmp_path / "pandawn.db"
    broken.mkdir()
    settings = Settings(database=f"sqlite:///{broken}")
    database = await_database(settings, pause, pauses.clock)
    database.check()
    database.dispose()
    assert pauses.count == 3


def test_a_database_that_never_comes_is_waited_for_as_long_as_the_settings_say() -> None:
    pauses = Pauses()
    settings = Settings(database=f"postgresql://u@{LOOPBACK}:{free_port()}/x", start_wait_seconds=4)
    with pytest.raises(UnavailableError):
        await_database(settings, pauses.pause, pauses.clock)
    assert pauses.seconds == 4


def test_what_no_waiting_mends_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "pandawn.db").write_text("another program's, and longer than a header would be" * 9)
    pauses = Pauses()
    with pytest.raises(PreconditionError):
        await_database(
            Settings(database=f"sqlite:///{tmp_path}/pandawn.db"), pauses.pause, pauses.clock
        )
    assert pauses.count == 0
