"""Sessions are shared by all servers on a database, and end with their pilots."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role, Session
from pandawn_server.domain.access.sessions import MAX_SESSION_LIFE
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import ForbiddenError, NotFoundError, UnauthenticatedError
from pandawn_server.storage.access import session_keys
from pandawn_server.storage.database import Database
from pandawn_server.usecases.access.open_session import open_session
from pandawn_server.usecases.access.sessions import (
    KEY_LEAD,
    refresh_sessions,
    renew_session,
    rotate_key,
)
from pandawn_server.usecases.leases.pilots import Registered, Registration, register_pilot
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.world import World

LIFE = timedelta(hours=1)


def register(
    world: World, request_id: str = "r", by: Principal = LOCAL_OPERATOR, node: str = "wn1"
) -> Registered:
    return register_pilot(
        world.context, Registration(request_id, QUEUE, node, "host", "1", "", ("file",)), by
    )


def opened(world: World, token: str) -> Principal:
    return world.context.sessions.open(token, world.clock())


def refused(world: World, token: str) -> str:
    with pytest.raises(UnauthenticatedError) as error:
        opened(world, token)
    return error.value.reason


def test_a_registration_gives_a_session_of_this_pilot_queue_and_node(world: World) -> None:
    registered = register(world)
    session = opened(world, registered.session_token).session
    assert session == Session(registered.pilot.pilot_id, QUEUE, NodeKey(SITE, "wn1"))


def test_who_registers_again_is_the_same_pilot_with_another_token(world: World) -> None:
    first = register(world)
    world.clock.advance(LIFE)
    assert refused(world, first.session_token) == "SESSION_EXPIRED"
    again = register(world)
    assert again.pilot.pilot_id == first.pilot.pilot_id
    assert opened(world, again.session_token).session is not None


def test_a_pilot_that_has_ended_is_not_taken_up_again(world: World) -> None:
    world.leave(register(world).pilot)
    with pytest.raises(NotFoundError) as error:
        register(world)
    assert error.value.reason == "PILOT_NOT_FOUND"


def test_a_pilot_of_a_queue_that_moved_is_not_taken_up_at_the_old_site(world: World) -> None:
    register(world)
    world.queue(site="ELSEWHERE")
    with pytest.raises(NotFoundError) as error:
        register(world)
    assert error.value.reason == "PILOT_NOT_FOUND"
    moved = opened(world, register(world, "another").session_token).session
    assert moved is not None
    assert moved.key == NodeKey("ELSEWHERE", "wn1")


def test_the_rule_that_let_a_pilot_in_is_told(world: World) -> None:
    robot = Principal("robot", Method.TOKEN, frozenset({Role.PILOT}), "pilot factory", "sub-7")
    register(world, by=robot)
    texts = [n.event.text for n in world.events() if n.event.kind == "PILOT_REGISTERED"]
    assert texts[-1].endswith("rule 'pilot factory' admitted sub-7")


def test_a_session_that_is_half_over_is_renewed_and_no_sooner(world: World) -> None:
    registered = register(world)
    principal = opened(world, registered.session_token)
    sessions = world.context.sessions
    world.clock.advance(LIFE / 2 - timedelta(seconds=2))
    assert not sessions.is_half_over(principal, world.clock())
    world.clock.advance(timedelta(seconds=2))
    assert sessions.is_half_over(principal, world.clock())
    renewed = renew_session(world.context, principal)
    assert opened(world, renewed).session == principal.session
    world.clock.advance(LIFE / 2 + timedelta(seconds=1))
    assert refused(world, registered.session_token) == "SESSION_EXPIRED"
    assert opened(world, renewed).session == principal.session
    assert not sessions.is_half_over(LOCAL_OPERATOR, world.clock())
    assert renew_session(world.context, LOCAL_OPERATOR) == ""


def test_a_session_is_good_at_every_server(world: World, database: Database) -> None:
    token = register(world).session_token
    other = world.beside(database)
    refresh_sessions(other.context)
    assert opened(other, token).session == opened(world, token).session


def test_a_session_ends_with_its_pilot_at_once_here_and_soon_elsewhere(
    world: World, database: Database
) -> None:
    registered = register(world)
    other = world.beside(database)
    refresh_sessions(other.context)
    here = opened(world, registered.session_token)
    there = opened(other, registered.session_token)
    world.leave(registered.pilot)
    assert world.context.sessions.has_ended(here)
    assert not other.context.sessions.has_ended(there)
    refresh_sessions(other.context)
    assert other.context.sessions.has_ended(there)


def test_a_session_ends_with_the_silence_of_its_pilot(world: World) -> None:
    principal = opened(world, register(world).session_token)
    world.pass_time_with_server_up(timedelta(minutes=40))
    assert world.context.sessions.has_ended(principal)


def test_the_end_of_a_pilot_is_remembered_as_long_as_its_tokens_are_good(world: World) -> None:
    registered = register(world)
    world.leave(registered.pilot)
    principal = opened(world, registered.session_token)
    world.clock.advance(LIFE)
    refresh_sessions(world.context)
    assert world.context.sessions.has_ended(principal)
    world.clock.advance(timedelta(seconds=1))
    refresh_sessions(world.context)
    assert refused(world, registered.session_token) == "SESSION_EXPIRED"


def test_sessions_outlive_a_change_of_the_key(world: World, database: Database) -> None:
    old = register(world).session_token
    other = world.beside(database)
    rotate_key(world.db, random.Random(7), world.clock(), end_sessions=False)
    refresh_sessions(world.context)
    # Not every server knows the new key yet: it does not sign.
    assert register(world).session_token.split(".")[1] == "1"
    world.clock.advance(KEY_LEAD)
    refresh_sessions(other.context)
    new = register(world).session_token
    assert new.split(".")[1] == "2"
    for token in (old, new):
        assert opened(other, token).session is not None


def test_keys_that_are_worn_out_are_dropped_by_the_next_change(world: World) -> None:
    register(world)
    for _ in range(3):
        rotate_key(world.db, random.Random(7), world.clock(), end_sessions=False)
        world.clock.advance(MAX_SESSION_LIFE + KEY_LEAD + timedelta(seconds=1))
    with world.db.read() as tx:
        assert [key.key_id for key in session_keys.all_keys(tx)] == [3, 4]


def test_sessions_can_be_ended_all_at_once(world: World) -> None:
    old = register(world).session_token
    rotate_key(world.db, random.Random(7), world.clock(), end_sessions=True)
    refresh_sessions(world.context)
    assert refused(world, old) == "SESSION_INVALID"
    assert opened(world, register(world).session_token).session is not None


def test_a_tool_gets_a_session_of_its_node_and_no_pilot(world: World) -> None:
    session = open_session(world.context, QUEUE, "wn9", LOCAL_OPERATOR)
    assert session.site == SITE
    assert session.expire_time == world.clock() + LIFE
    principal = opened(world, session.token)
    assert principal.session == Session("", QUEUE, NodeKey(SITE, "wn9"))
    with pytest.raises(NotFoundError, match="no queue 'NONE'"):
        open_session(world.context, "NONE", "wn9", LOCAL_OPERATOR)


def test_who_may_bring_pilots_of_one_site_brings_none_of_another(world: World) -> None:
    def robot(*sites: str) -> Principal:
        return Principal(
            "robot", Method.TOKEN, frozenset({Role.PILOT}), "a rule", sites=frozenset(sites)
        )

    register(world, "here", robot(SITE, "T2"))
    register(world, "everywhere", robot())
    for bring in (
        lambda: register(world, "there", robot("T2")),
        lambda: open_session(world.context, QUEUE, "wn1", robot("T2")),
    ):
        with pytest.raises(ForbiddenError) as error:
            bring()
        assert error.value.reason == "NOT_YOUR_SITE"
