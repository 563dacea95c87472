"""A session lasts as long as what it was begun with, and a node's name belongs to who proves it, or gave it first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from pandawn_server.domain.access.admission import Admission, Patterns, Rule, Shown
from pandawn_server.domain.access.principals import Method, Principal, Role
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    PandawnError,
    UnauthenticatedError,
)
from pandawn_server.domain.leases.pilots import HOLDS_FOR
from pandawn_server.usecases.access.open_session import open_session
from pandawn_server.usecases.access.sessions import refresh_sessions, renew_session
from pandawn_server.usecases.leases.pilots import Registered, Registration, register_pilot
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.world import World

LIFE = timedelta(hours=1)
ISSUER = "https://iam.example.org/"


@dataclass
class Files:
    """What certificates and tokens are judged by, as a test changes it."""

    rules: tuple[Rule, ...]
    revoked: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    count: int = 0

    @property
    def admission(self) -> Admission:
        return Admission(self.rules, self.revoked)

    def change(
        self,
        rules: Iterable[Rule] | None = None,
        revoked: Iterable[str] = (),
        numbers: Iterable[str] = (),
    ) -> None:
        if rules is not None:
            self.rules = tuple(rules)
        self.revoked, self.numbers = frozenset(revoked), frozenset(numbers)
        self.count += 1

    def judge(self, shown: Shown, now: datetime) -> Principal:
        del now
        if any(number in self.numbers for _, number in shown.certificates):
            raise UnauthenticatedError("CERTIFICATE_REVOKED", "it was taken back")
        return self.admission.admit(shown)

    def outlives(self, shown: Shown) -> timedelta:
        return self.admission.outlives(shown)

    def changes(self) -> int:
        return self.count


def rule(name: str = "robots", method: Method = Method.TOKEN, **more: object) -> Rule:
    values: dict[str, object] = {"name": name, "method": method, "roles": frozenset({Role.PILOT})}
    return Rule(**(values | more))  # type: ignore[arg-type]


NODES = rule(
    "nodes", Method.X509, hosts=Patterns((re.compile(r"wn\d\.example\.org"),)), binds_nodes=True
)


@dataclass
class Site:
    """A world whose credentials are judged by rules."""

    world: World
    files: Files = field(default_factory=lambda: Files((rule(), NODES)))

    def token(self, subject: str = "robot", life: timedelta = LIFE, **claims: str) -> Principal:
        shown = Shown(
            Method.TOKEN,
            ISSUER,
            subject,
            subject,
            self.world.clock() + life,
            claims={"jti": f"{subject}-1", **claims},
        )
        return self.files.admission.admit(shown)

    def certificate(self, host: str, number: str = "7") -> Principal:
        shown = Shown(
            Method.X509,
            "/CN=CA",
            f"/CN={host}",
            host,
            self.world.clock() + timedelta(days=300),
            hosts=(host,),
            certificates=(("3000", number),),
        )
        return self.files.admission.admit(shown)

    def register(
        self, by: Principal, node: str = "wn1.example.org", request: str = "r", key: str = ""
    ) -> Registered:
        asked = Registration(request, QUEUE, node, "host", "1", "", ("file",), key)
        return register_pilot(self.world.context, asked, by)

    def pilot(self, registered: Registered) -> Principal:
        return self.world.context.sessions.open(registered.session_token, self.world.clock())


@pytest.fixture
def site(world: World) -> Site:
    made = Site(world)
    world.context.sessions.judge = made.files
    world.queue(pilot_methods=("token", "x509", "local"))
    return made


def reason(error: pytest.ExceptionInfo[PandawnError]) -> str:
    return error.value.reason


def test_a_session_goes_on_while_its_credential_is_good(site: Site) -> None:
    pilot = site.pilot(site.register(site.token()))
    site.world.clock.advance(LIFE / 2)
    renewed = renew_session(site.world.context, pilot)
    again = site.world.context.sessions.open(renewed, site.world.clock())
    assert again.session == pilot.session
    assert again.session is not None
    assert pilot.session is not None
    assert again.session.begin_time == pilot.session.begin_time


def test_a_session_is_not_renewed_after_its_token_has_expired(site: Site) -> None:
    pilot = site.pilot(site.register(site.token(life=timedelta(minutes=20))))
    site.world.clock.advance(LIFE / 2)
    assert renew_session(site.world.context, pilot) == ""
    # What was promised holds; and with a good token the same pilot goes on.
    assert not site.world.context.sessions.has_ended(pilot)
    again = site.register(site.token())
    assert again.pilot.pilot_id == pilot.name.removeprefix("pilot:")
    site.world.clock.advance(LIFE / 2)
    assert renew_session(site.world.context, site.pilot(again)) != ""


def test_a_rule_may_let_sessions_outlive_their_tokens(site: Site) -> None:
    site.files.change([rule(outlives=timedelta(hours=2))])
    pilot = site.pilot(site.register(site.token(life=timedelta(minutes=20))))
    site.world.clock.advance(LIFE / 2)
    assert renew_session(site.world.context, pilot) != ""
    site.world.clock.advance(timedelta(hours=2))
    assert renew_session(site.world.context, pilot) == ""


def test_no_session_is_renewed_beyond_its_longest_life(site: Site) -> None:
    site.world.context.sessions.longest = timedelta(hours=10)
    pilot = site.pilot(site.register(site.token(life=timedelta(days=365))))
    site.world.clock.advance(timedelta(hours=9))
    assert renew_session(site.world.context, pilot) != ""
    site.world.clock.advance(timedelta(hours=1))
    assert renew_session(site.world.context, pilot) == ""


def test_a_revoked_certificate_ends_its_sessions_at_the_next_look(site: Site) -> None:
    bad = site.pilot(site.register(site.certificate("wn1.example.org", "7")))
    good = site.pilot(
        site.register(site.certificate("wn2.example.org", "8"), "wn2.example.org", "r2")
    )
    refresh_sessions(site.world.context)
    sessions = site.world.context.sessions
    assert not sessions.has_ended(bad)
    site.files.change(numbers={"7"})
    refresh_sessions(site.world.context)
    assert sessions.has_ended(bad)
    assert not sessions.has_ended(good)
    assert renew_session(site.world.context, bad) == ""


def test_a_server_that_has_not_looked_yet_does_not_renew_it_either(site: Site) -> None:
    bad = site.pilot(site.register(site.certificate("wn1.example.org")))
    site.files.change(numbers={"7"})
    assert renew_session(site.world.context, bad) == ""
    assert site.world.context.sessions.has_ended(bad)


@pytest.mark.parametrize("how", ["rule", "token"])
def test_a_rule_that_is_gone_and_a_revoked_token_end_sessions(site: Site, how: str) -> None:
    pilot = site.pilot(site.register(site.token()))
    if how == "rule":
        site.files.change([NODES])
    else:
        site.files.change(revoked={"robot-1"})
    refresh_sessions(site.world.context)
    assert site.world.context.sessions.has_ended(pilot)


def test_who_is_let_in_again_has_a_session_again(site: Site) -> None:
    rules = site.files.rules
    pilot = site.pilot(site.register(site.token()))
    site.files.change([])
    refresh_sessions(site.world.context)
    site.files.change(rules)
    site.world.clock.advance(timedelta(seconds=2))
    again = site.pilot(site.register(site.token()))
    assert again.name == pilot.name
    assert not site.world.context.sessions.has_ended(again)
    assert site.world.context.sessions.has_ended(pilot)


def test_a_queue_that_takes_such_pilots_no_more_ends_their_sessions(site: Site) -> None:
    pilot = site.pilot(site.register(site.token()))
    site.world.queue(pilot_methods=("x509",))
    assert renew_session(site.world.context, pilot) == ""
    assert site.world.context.sessions.has_ended(pilot)


def test_a_certificate_of_a_node_is_good_for_that_node_only(site: Site) -> None:
    thief = site.certificate("wn2.example.org")
    for call in (
        lambda: site.register(thief, "wn1.example.org"),
        lambda: open_session(site.world.context, QUEUE, "wn1.example.org", thief),
    ):
        with pytest.raises(ForbiddenError) as caught:
            call()
        assert reason(caught) == "NODE_NAME_REFUSED"
    assert site.register(thief, "wn2.example.org").pilot.key == NodeKey(SITE, "wn2.example.org")


def test_a_token_may_name_the_nodes_of_its_pilots(site: Site) -> None:
    site.files.change([rule(node_claim="nodes")])
    robot = site.token(nodes="wn1.example.org WN2.example.org")
    site.register(robot, "wn2.example.org")
    with pytest.raises(ForbiddenError) as caught:
        site.register(robot, "wn3.example.org", "r3")
    assert reason(caught) == "NODE_NAME_REFUSED"
    with pytest.raises(ForbiddenError):
        site.register(site.token(), "wn1.example.org", "r4")


def test_the_first_machine_keeps_a_node_s_name_while_its_pilots_live(site: Site) -> None:
    # One token for all nodes of a site, as a factory has it.
    site.register(site.token(), key="machine 1")
    site.register(site.token(), request="second pilot", key="machine 1")
    for key in ("machine 2", ""):
        for call in (
            lambda key=key: site.register(site.token(), request="thief", key=key),
            lambda key=key: open_session(
                site.world.context, QUEUE, "wn1.example.org", site.token(), None, key
            ),
        ):
            with pytest.raises(ForbiddenError) as caught:
                call()
            assert reason(caught) == "NODE_HELD"
    # The tools of the machine come in, with a credential of their own too.
    open_session(
        site.world.context, QUEUE, "wn1.example.org", site.token("hook"), None, "machine 1"
    )


def test_a_name_is_free_when_its_holders_are_silent_or_gone(site: Site) -> None:
    first = site.register(site.token(), key="machine 1")
    site.world.clock.advance(HOLDS_FOR + timedelta(seconds=1))
    second = site.register(site.token(), request="set up anew", key="machine 2")
    assert second.pilot.key == first.pilot.key
    site.world.leave(first.pilot)
    site.world.leave(second.pilot)
    site.register(site.token(), request="another", key="machine 3")


def test_without_a_word_of_their_machines_the_credential_tells_holders(site: Site) -> None:
    site.register(site.token("robot"))
    site.register(site.token("robot"), request="r2")
    with pytest.raises(ForbiddenError) as caught:
        site.register(site.token("other"), request="r3")
    assert reason(caught) == "NODE_HELD"


def test_who_proves_the_name_of_a_node_gets_it_from_who_only_said_it(site: Site) -> None:
    site.register(site.token(), key="squatter")
    proved = site.register(site.certificate("wn1.example.org"), request="r2", key="itself")
    assert proved.pilot.key.node == "wn1.example.org"


def test_a_request_id_is_of_use_to_the_credential_that_used_it_first(site: Site) -> None:
    site.register(site.token("robot"), request="heard of")
    with pytest.raises(InvalidRequestError, match="another credential"):
        site.register(site.token("thief"), request="heard of")


def test_what_a_machine_knows_is_told_to_nobody(site: Site) -> None:
    site.register(site.token(), key="a secret of the machine")
    with site.world.db.read() as tx:
        rows = tx.exec_driver_sql("SELECT * FROM pilots").fetchall()
    assert "a secret of the machine" not in str(rows)
