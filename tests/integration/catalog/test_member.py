"""One memcached of a pool: which failures say something about the server, and which do not."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest

from pandawn_server.catalog.member import Connection, LostError, Member, NoRoomError, Timeouts
from tests.fixtures.catalog import ManualClock
from tests.fixtures.memcached import MemcachedServer
from tests.fixtures.ports import LOOPBACK


@pytest.fixture
def member(memcached: MemcachedServer) -> Iterator[Member]:
    """A member with two idle connections."""
    made = Member(LOOPBACK, memcached.port, Timeouts(), ManualClock())
    made.call(lambda first: made.call(lambda second: (first.version(), second.version())))
    yield made
    made.close()


class Failing:
    """Commands that end in an error, counted."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.runs = 0

    def __call__(self, connection: Connection) -> None:
        del connection
        self.runs += 1
        raise self.error


def test_a_time_out_is_not_repeated_on_other_idle_connections(member: Member) -> None:
    commands = Failing(TimeoutError())
    with pytest.raises(LostError, match="timed out"):
        member.call(commands)
    assert commands.runs == 1
    assert member.is_lost


def test_dead_idle_connections_are_replaced_by_one_new_one(member: Member) -> None:
    commands = Failing(ConnectionResetError("reset"))
    with pytest.raises(LostError, match="reset"):
        member.call(commands)
    # On one that was idle and, all others being dead too, on a new one.
    assert commands.runs == 2


def test_what_a_server_refuses_to_store_does_not_make_it_lost(
    member: Member, memcached: MemcachedServer
) -> None:
    with pytest.raises(NoRoomError, match="too large"):
        member.call(lambda connection: connection.set("key", b"x" * 2**21))
    assert not member.is_lost
    assert member.call(lambda connection: connection.version())
    del memcached


def test_only_a_lost_server_can_be_strayed_from(member: Member) -> None:
    assert not member.stray("route")
    with pytest.raises(LostError):
        member.call(Failing(TimeoutError()))
    assert member.stray("route")
    elsewhere: list[Collection[str]] = []
    member.look_after(elsewhere.append)
    assert elsewhere == [["route"]]
    assert not member.is_lost
    assert not member.stray("route")
