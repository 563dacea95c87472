"""The gate lets in who shows something good, for what its policy allows, and says what others lack."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import structlog

from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role, Session
from pandawn_server.domain.access.sessions import SessionKey
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import PandawnError, UnauthenticatedError
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_server.wire.auth import gate
from pandawn_server.wire.auth.api import Evidence
from pandawn_server.wire.auth.gate import RECHECK_AFTER, Gate
from pandawn_server.wire.auth.host import HostAuthenticator
from pandawn_server.wire.auth.session import SessionAuthenticator
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.policies import POLICIES
from tests.fixtures.clock import SettableClock
from tests.fixtures.telemetry import RecordingTelemetry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REGISTER = "/pandawn.dispatcher.v1.Dispatcher/RegisterPilot"
OPEN_SESSION = "/pandawn.filecatalog.v1.FileCatalog/OpenSession"
ACQUIRE = "/pandawn.dispatcher.v1.Dispatcher/AcquireJobs"
LEAVE = "/pandawn.dispatcher.v1.Dispatcher/DeregisterPilot"
SUBMIT = "/pandawn.broker.v1.Broker/SubmitTask"
GET_TASK = "/pandawn.broker.v1.Broker/GetTask"
CHECK_FILES = "/pandawn.filecatalog.v1.FileCatalog/CheckFiles"
WHO_AM_I = "/pandawn.broker.v1.Broker/WhoAmI"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Call:
    """As much of a call as the gate looks at."""

    def __init__(self, peer: str = "ipv4:10.0.0.5:33", **metadata: str) -> None:
        self._peer = peer
        self._metadata = tuple((key.replace("_", "-"), v) for key, v in metadata.items())

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def auth_context(self) -> Mapping[str, Any]:
        return {}


class Words:
    """Takes `Bearer <name>` for what it says, and counts how often it is asked."""

    name = "token"
    expects = "the word of a user"

    def __init__(self, **known: Principal) -> None:
        self.known = known
        self.asked = 0

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        del now
        self.asked += 1
        word = evidence.metadata.get("authorization", "").removeprefix("Bearer ")
        if not word:
            return None
        if word not in self.known:
            raise UnauthenticatedError("TOKEN_MALFORMED", f"{word!r} says nothing")
        return self.known[word]


def make_principal(*roles: Role, **overrides: Any) -> Principal:
    values = {"name": "anna", "method": Method.TOKEN, "roles": frozenset(roles), "rule": "a rule"}
    return Principal(**{**values, **overrides})


def admit(gate: Gate, method: str, call: Call | None = None) -> Principal | None:
    # Each call has a context of its own, as in the server: who was let in is not the caller of what comes after.
    return copy_context().run(gate.admit, method, cast("ServicerContext", call or Call()))


def refused(gate: Gate, method: str, call: Call | None = None) -> PandawnError:
    with pytest.raises(PandawnError) as error:
        admit(gate, method, call)
    return error.value


@pytest.fixture
def sessions() -> Sessions:
    book = Sessions()
    book.take_keys([SessionKey(1, b"k" * 32, NOW)])
    return book


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOW)


PILOT_SESSION = Session("p1", "Q", NodeKey("T3", "wn1"))


def session_gate(sessions: Sessions, clock: SettableClock, *others: Any, **more: Any) -> Gate:
    return Gate(
        others,
        sessions=SessionAuthenticator(sessions),
        has_ended=sessions.has_ended,
        clock=clock,
        **more,
    )


def test_on_this_machine_whoever_shows_nothing_is_the_operator() -> None:
    local = Gate(otherwise=LOCAL_OPERATOR)
    for method in [*POLICIES, REFLECTION, "/other.Service/Method"]:
        assert admit(local, method) is LOCAL_OPERATOR


def test_elsewhere_nothing_shown_is_not_enough_and_one_is_told_what_is_taken() -> None:
    error = refused(Gate([Words()]), GET_TASK)
    assert isinstance(error, UnauthenticatedError)
    assert error.reason == "CREDENTIALS_REQUIRED"
    assert "this address takes the word of a user" in error.message


def test_anybody_may_ask_for_the_health_and_only_operators_for_the_contracts() -> None:
    words = Words(anna=make_principal(Role.USER), root=make_principal(Role.OPERATOR))
    strict = Gate([words])
    assert admit(strict, HEALTH) is None
    assert refused(strict, REFLECTION).reason == "CREDENTIALS_REQUIRED"
    assert refused(strict, REFLECTION, Call(authorization="Bearer anna")).reason == "ROLE_MISSING"
    assert admit(strict, REFLECTION, Call(authorization="Bearer root")) == words.known["root"]


def test_a_role_that_is_missing_is_named_with_the_rule_that_gave_the_others() -> None:
    words = Gate([Words(watcher=make_principal(Role.MONITOR, subject="nagios"))])
    call = Call(authorization="Bearer watcher")
    assert admit(words, GET_TASK, call) is not None
    error = refused(words, SUBMIT, call)
    assert error.reason == "ROLE_MISSING"
    assert error.message == (
        "Broker.SubmitTask is for site-admin, user; nagios is monitor by the rule 'a rule'"
    )


def test_a_token_without_the_scope_is_refused_whatever_its_owner_may() -> None:
    reader = make_principal(Role.OPERATOR, scopes=frozenset({"compute.read"}))
    words = Gate([Words(root=reader)])
    call = Call(authorization="Bearer root")
    assert admit(words, GET_TASK, call) is reader
    error = refused(words, SUBMIT, call)
    assert error.reason == "SCOPE_MISSING"
    assert error.metadata == {"scope": "compute.create"}


def test_a_credential_is_read_once_a_minute(clock: SettableClock) -> None:
    words = Words(anna=make_principal(Role.USER))
    once = Gate([words], clock=clock)
    call = Call(authorization="Bearer anna")
    for _ in range(3):
        admit(once, GET_TASK, call)
    assert words.asked == 1
    clock.advance(RECHECK_AFTER)
    del words.known["anna"]
    assert refused(once, GET_TASK, call).reason == "TOKEN_MALFORMED"


def test_what_was_read_is_believed_no_longer_than_it_is_good(clock: SettableClock) -> None:
    words = Words(anna=make_principal(Role.USER, expire_time=NOW + timedelta(seconds=5)))
    once = Gate([words], clock=clock)
    call = Call(authorization="Bearer anna")
    admit(once, GET_TASK, call)
    clock.advance(timedelta(seconds=5))
    admit(once, GET_TASK, call)
    assert words.asked == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_REMEMBERED", 3)
    names = [f"user{n}" for n in range(10)]
    words = Words(**{name: make_principal(Role.USER, name=name) for name in names})
    bounded = Gate([words])
    for name in names:
        principal = admit(bounded, GET_TASK, Call(authorization=f"Bearer {name}"))
        assert principal is words.known[name]
    assert len(bounded._seen) <= 3


def test_a_bad_credential_is_not_made_good_by_the_machine_it_comes_from() -> None:
    either = Gate([Words()], otherwise=LOCAL_OPERATOR)
    assert admit(either, GET_TASK) is LOCAL_OPERATOR
    assert refused(either, GET_TASK, Call(authorization="Bearer x")).reason == "TOKEN_MALFORMED"


def test_a_session_counts_before_all_else(sessions: Sessions, clock: SettableClock) -> None:
    words = Words(root=make_principal(Role.OPERATOR))
    both = session_gate(sessions, clock, words, otherwise=LOCAL_OPERATOR)
    token, _ = sessions.issue(PILOT_SESSION, NOW)
    principal = admit(both, ACQUIRE, Call(authorization="Bearer root", pandawn_session=token))
    assert principal is not None
    assert principal.session == PILOT_SESSION
    assert refused(both, SUBMIT, Call(pandawn_session=token)).reason == "ROLE_MISSING"
    assert words.asked == 0
    bad = refused(both, ACQUIRE, Call(authorization="Bearer root", pandawn_session=token[:-1]))
    assert bad.reason == "SESSION_INVALID"


@pytest.mark.parametrize("method", [REGISTER, OPEN_SESSION])
def test_a_session_does_not_begin_another(
    method: str, sessions: Sessions, clock: SettableClock
) -> None:
    words = Words(robot=make_principal(Role.PILOT, name="robot"))
    both = session_gate(sessions, clock, words)
    token, _ = sessions.issue(PILOT_SESSION, NOW)
    error = refused(both, method, Call(pandawn_session=token))
    assert error.reason == "CREDENTIALS_REQUIRED"
    # One that has expired is no hindrance either.
    clock.advance(timedelta(hours=2))
    call = Call(pandawn_session=token, authorization="Bearer robot")
    assert admit(both, method, call) == words.known["robot"]


def test_an_expired_session_is_told_so(sessions: Sessions, clock: SettableClock) -> None:
    only = session_gate(sessions, clock)
    token, expire_time = sessions.issue(PILOT_SESSION, NOW)
    assert admit(only, ACQUIRE, Call(pandawn_session=token)) is not None
    clock.now = expire_time
    assert refused(only, ACQUIRE, Call(pandawn_session=token)).reason == "SESSION_EXPIRED"


def test_a_session_ends_with_its_pilot_but_for_its_goodbye(
    sessions: Sessions, clock: SettableClock
) -> None:
    only = session_gate(sessions, clock)
    token, _ = sessions.issue(PILOT_SESSION, NOW)
    call = Call(pandawn_session=token)
    assert admit(only, ACQUIRE, call) is not None
    sessions.end(["p1"], NOW)
    assert refused(only, ACQUIRE, call).reason == "SESSION_ENDED"
    assert admit(only, LEAVE, call) is not None


def test_a_pilots_credential_is_for_its_registration_and_no_more() -> None:
    words = Gate([Words(robot=make_principal(Role.PILOT))])
    call = Call(authorization="Bearer robot")
    assert admit(words, REGISTER, call) is not None
    assert refused(words, ACQUIRE, call).reason == "SESSION_REQUIRED"


def test_an_address_is_good_for_beginning_a_session_and_nothing_else() -> None:
    hosts = Gate([HostAuthenticator()])
    for method in (REGISTER, OPEN_SESSION):
        principal = admit(hosts, method)
        assert principal is not None
        assert (principal.method, principal.subject) == (Method.HOST, "10.0.0.5")
    for method in POLICIES.keys() - {REGISTER, OPEN_SESSION}:
        assert refused(hosts, method).reason in {
            "SESSION_REQUIRED",
            "ROLE_MISSING",
            "CREDENTIALS_REQUIRED",
        }
    assert refused(hosts, CHECK_FILES).reason == "SESSION_REQUIRED"


def test_a_user_at_an_address_for_pilots_is_told_so_and_not_of_session_tokens() -> None:
    error = refused(Gate([HostAuthenticator()]), WHO_AM_I)
    assert error.reason == "CREDENTIALS_REQUIRED"
    assert "users call the address" in error.message
    assert "session" not in error.message


def test_an_address_is_never_remembered_for_another_caller() -> None:
    hosts = Gate([HostAuthenticator()])
    for address in ("10.0.0.5", "10.0.0.6"):
        principal = admit(hosts, REGISTER, Call(peer=f"ipv4:{address}:1"))
        assert principal is not None
        assert principal.subject == address


@pytest.mark.parametrize("header", ["x-forwarded-for", "x-real-ip", "forwarded", "via"])
def test_a_proxy_on_this_machine_makes_no_operators_of_strangers(
    header: str, sessions: Sessions, clock: SettableClock
) -> None:
    local = session_gate(sessions, clock, otherwise=LOCAL_OPERATOR)
    assert refused(local, SUBMIT, Call(**{header: "198.51.100.7"})).reason == "PROXY_NOT_DECLARED"
    # Who shows a credential is not taken for somebody of this machine.
    token, _ = sessions.issue(PILOT_SESSION, NOW)
    call = Call(**{header: "198.51.100.7", "pandawn-session": token})
    assert admit(local, ACQUIRE, call) is not None


def test_a_client_whose_proxy_does_not_name_it_is_nobody() -> None:
    behind = Gate([HostAuthenticator()], peer_of=lambda _peer, _metadata: "")
    assert refused(behind, REGISTER).reason == "ADDRESS_UNKNOWN"


def test_credentials_that_are_read_are_counted_and_calls_are_not() -> None:
    telemetry = RecordingTelemetry()
    counting = Gate([Words(anna=make_principal(Role.USER))], telemetry=telemetry)
    for _ in range(3):
        admit(counting, GET_TASK, Call(authorization="Bearer anna"))
    assert telemetry.counts == [("pandawn.admissions", 1, {"pandawn.auth.method": "token"})]


def test_the_rule_that_let_somebody_in_is_in_the_log() -> None:
    words = Gate([Words(anna=make_principal(Role.USER, subject="sub-1"))])
    with structlog.testing.capture_logs() as log:
        admit(words, GET_TASK, Call(authorization="Bearer anna"))
    (line,) = log
    assert (line["event"], line["log_level"]) == ("admitted", "debug")
    assert (line["rule"], line["subject"], line["user"]) == ("a rule", "sub-1", "anna")


def test_metadata_beyond_all_need_is_refused_at_little_cost() -> None:
    asked = Words(anna=make_principal(Role.USER))
    flood = Call()
    flood._metadata = tuple(("x", "y" * 10_000) for _ in range(gate.MAX_ENTRIES + 1))
    with pytest.raises(UnauthenticatedError, match="metadata"):
        copy_context().run(Gate([asked]).admit, GET_TASK, cast("ServicerContext", flood))
    assert asked.asked == 0


def test_a_connection_is_reported_when_somebody_showed_who_it_is() -> None:
    shown: list[str] = []
    made = Gate([Words(anna=make_principal(Role.USER))], on_shown=shown.append)
    run = copy_context().run
    with pytest.raises(PandawnError):
        run(made.admit, GET_TASK, cast("ServicerContext", Call(authorization="Bearer eve")))
    run(made.admit, HEALTH, cast("ServicerContext", Call()))
    assert shown == []
    run(made.admit, GET_TASK, cast("ServicerContext", Call(authorization="Bearer anna")))
    assert shown == ["ipv4:10.0.0.5:33"]
