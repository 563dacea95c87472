"""Pilots of nodes that are known by address and name: let in by the queue's rules, refused and told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.access.host_admission import HostFacts
from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role
from pandawn_server.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    PandawnError,
    UnavailableError,
)
from pandawn_server.usecases.access.open_session import open_session
from pandawn_server.usecases.access.refusals import MAX_RECORDED, REPEAT_AFTER
from pandawn_server.usecases.leases.pilots import Registered, Registration, register_pilot
from tests.fixtures.factories import QUEUE
from tests.fixtures.world import World

NAME = "wn5.example.org"
HONEST = HostFacts("10.1.0.5", (NAME,), (NAME,))
LIAR = HostFacts("10.1.0.66", (NAME,), ())


def host(facts: HostFacts) -> Principal:
    roles = frozenset({Role.PILOT})
    return Principal(f"host:{facts.address}", Method.HOST, roles, "a rule", facts.address)


def register(
    world: World, facts: HostFacts | None, node: str = NAME, by: Principal | None = None
) -> Registered:
    assert by is not None or facts is not None
    caller = by or host(facts or HONEST)
    request_id = world.new_request_id()
    registration = Registration(request_id, QUEUE, node, "host", "1", "", ("file",))
    return register_pilot(world.context, registration, caller, facts)


def refused(world: World, facts: HostFacts, node: str = NAME) -> PandawnError:
    with pytest.raises((ForbiddenError, UnavailableError)) as error:
        register(world, facts, node)
    return error.value


def told(world: World) -> list[str]:
    return [n.event.text for n in world.events() if n.event.kind == "PILOT_REFUSED"]


@pytest.fixture
def tier3(world: World) -> World:
    """A site whose nodes are known by address and name."""
    world.queue(
        pilot_methods=("host",),
        pilot_networks=("10.1.0.0/16", "2001:db8::/32"),
        pilot_host_pattern=r"wn\d+\.example\.org",
    )
    return world


def test_a_node_with_its_own_name_brings_a_pilot_and_opens_a_session(tier3: World) -> None:
    registered = register(tier3, HONEST)
    assert registered.pilot.key.node == NAME
    session = tier3.context.sessions.open(registered.session_token, tier3.clock()).session
    assert session is not None
    assert session.key == registered.pilot.key
    opened = open_session(tier3.context, QUEUE, NAME, host(HONEST), HONEST)
    assert opened.site == registered.pilot.key.site
    assert told(tier3) == []


def test_a_name_that_is_not_its_own_is_refused_and_both_are_told(tier3: World) -> None:
    error = refused(tier3, HONEST, "wn6.example.org")
    assert error.reason == "HOST_NOT_ADMITTED"
    assert error.metadata == {"queue": QUEUE, "node": "wn6.example.org", "address": "10.1.0.5"}
    (text,) = told(tier3)
    assert text == error.message
    assert "claims to be wn6.example.org" in text
    assert "10.1.0.5 is wn5.example.org" in text


def test_a_name_made_up_in_the_reverse_zone_is_refused(tier3: World) -> None:
    assert refused(tier3, LIAR).reason == "HOST_NOT_ADMITTED"
    assert "has the name wn5.example.org, which does not resolve back to it" in told(tier3)[0]
    with pytest.raises(ForbiddenError):
        open_session(tier3.context, QUEUE, NAME, host(LIAR), LIAR)


def test_while_the_name_service_is_down_it_is_worth_another_try(tier3: World) -> None:
    error = refused(tier3, HostFacts("10.1.0.5", problem="the name service does not answer"))
    assert isinstance(error, UnavailableError)
    assert error.reason == "NAME_SERVICE_UNAVAILABLE"
    assert error.retry_after is not None
    assert register(tier3, HONEST).pilot.key.node == NAME


def test_who_tries_again_and_again_does_not_fill_the_table(tier3: World) -> None:
    for _ in range(5):
        refused(tier3, LIAR)
    assert len(told(tier3)) == 1
    tier3.clock.advance(REPEAT_AFTER)
    refused(tier3, LIAR)
    assert len(told(tier3)) == 2
    for number in range(MAX_RECORDED + 10):
        refused(tier3, LIAR, f"wn{number}.example.org")
    assert len(told(tier3)) <= MAX_RECORDED + 2


def test_a_queue_that_takes_hosts_only_takes_nobody_else(tier3: World) -> None:
    token = Principal("robot", Method.TOKEN, frozenset({Role.PILOT}), "a rule")
    for by in (LOCAL_OPERATOR, token):
        with pytest.raises(ForbiddenError) as error:
            register(tier3, None, by=by)
        assert error.value.reason == "PILOT_METHOD_REFUSED"
        assert "accepts pilots by host, not by" in error.value.message
    tier3.queue(pilot_methods=("token",))
    assert register(tier3, None, by=token).pilot.key.node == NAME
    assert refused(tier3, HONEST).reason == "PILOT_METHOD_REFUSED"


def test_a_queue_that_says_nothing_of_hosts_takes_none(world: World) -> None:
    assert refused(world, HONEST).reason == "HOST_NOT_ADMITTED"
    assert "has no pilot_networks or no pilot_host_pattern" in told(world)[0]


def test_rules_that_change_hold_from_the_next_registration_on(tier3: World) -> None:
    register(tier3, HONEST)
    tier3.queue(pilot_networks=("10.2.0.0/16",))
    tier3.clock.advance(timedelta(minutes=1))
    assert "in none of the queue's networks" in refused(tier3, HONEST).message


@pytest.mark.parametrize("pattern", ["(", "(a+", r"(a)\1", "(?=x)", "(a{1000}){1000}"])
def test_a_pattern_that_cannot_be_matched_in_bounded_time_is_not_taken(
    world: World, pattern: str
) -> None:
    with pytest.raises(
        InvalidRequestError, match="pilot_host_pattern: is not a pattern of host names"
    ):
        world.queue(pilot_host_pattern=pattern)
