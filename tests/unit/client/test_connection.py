"""The line to the server: dead ones, proxies, and what one call finds out for the others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message

from pandawn.dispatcher.v1 import dispatcher_pb2
from pandawn_client.address import is_local
from pandawn_client.calls import call, persist
from pandawn_client.channel import proxy_for, proxy_hint
from pandawn_client.connection import Connection
from pandawn_client.contact import Contact
from pandawn_client.refusals import CallError
from pandawn_pilot.stop import Stop
from tests.fixtures.fake_dispatcher import FakeDispatcher
from tests.fixtures.ports import LOOPBACK, free_port
from tests.unit.pilot.factories import make_test_log

AWAY = CallError(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "away", transient=True)
# Longer than a test may take.
FOR_EVER = 3600.0


@pytest.fixture
def connection(fake_dispatcher: FakeDispatcher) -> Iterator[Connection]:
    connection = Connection(fake_dispatcher.address)
    yield connection
    connection.close()


def beat(connection: Connection, timeout: float = 30) -> None:
    call(connection.dispatcher.RenewLeases, dispatcher_pb2.RenewLeasesRequest(), timeout)


def test_after_one_call_that_nobody_answered_the_next_goes_over_another_connection(
    fake_dispatcher: FakeDispatcher, connection: Connection
) -> None:
    beat(connection)
    beat(connection)
    first, second = fake_dispatcher.peers
    assert first == second, "one connection serves as long as it is answered on"
    fake_dispatcher.fall_silent("RenewLeases", first)
    with pytest.raises(CallError) as unanswered:
        beat(connection, timeout=0.2)
    assert unanswered.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    beat(connection)
    assert fake_dispatcher.peers[-1] != first


def test_a_server_that_is_only_slow_is_not_flooded_with_connections(
    fake_dispatcher: FakeDispatcher, connection: Connection
) -> None:
    def answer(_request: object, _context: grpc.ServicerContext) -> Message:
        fake_dispatcher.released.wait()
        return dispatcher_pb2.RenewLeasesResponse()

    fake_dispatcher.behaviours["RenewLeases"] = answer
    for _ in range(5):
        with pytest.raises(CallError):
            beat(connection, timeout=0.1)
    assert connection.line == 1


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_loopback_is_reached_in_spite_of_a_proxy(
    fake_dispatcher: FakeDispatcher, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://{LOOPBACK}:{free_port()}")
    connection = Connection(fake_dispatcher.address)
    beat(connection)
    connection.close()


@pytest.mark.usefixtures("_no_proxies")
def test_only_a_proxy_that_is_named_for_grpc_is_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("head.example.org:443") is None
    assert proxy_hint("head.example.org:443") == ""
    monkeypatch.setenv("http_proxy", "http://squid.example.org:3128")
    assert proxy_for("head.example.org:443") is None
    assert "http_proxy is not used for gRPC" in proxy_hint("head.example.org:443")
    monkeypatch.setenv("grpc_proxy", "http://anna:secret@proxy.example.org:8080")
    assert proxy_for("head.example.org:443") == "http://proxy.example.org:8080"
    assert "through the proxy http://proxy.example.org:8080" in proxy_hint("head.example.org:443")
    assert proxy_for("unix:/run/pandawn.sock") is None
    assert proxy_hint("[::1]:25443") == ""


@pytest.mark.parametrize(
    "server",
    [
        "unix:/run/x",
        "localhost:1",
        "127.0.0.3:1",
        "[::1]:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1",
    ],
)
def test_what_stays_on_this_machine_is_known_in_each_spelling(server: str) -> None:
    assert is_local(server)
    assert not is_local("dns:///head.example.org:1")


class OtherCallGetsThrough(Stop):
    """A pause in which another thread's call is answered."""

    def __init__(self, contact: Contact) -> None:
        super().__init__()
        self._contact = contact

    def wait(self, seconds: float) -> bool:
        self._contact.record(grpc.StatusCode.OK)
        return super().wait(seconds)


def test_who_waits_for_the_server_goes_on_when_another_call_has_reached_it() -> None:
    contact = Contact()
    contact.record(grpc.StatusCode.UNAVAILABLE)
    contact.pause(OtherCallGetsThrough(contact), FOR_EVER)


def test_what_the_server_asked_for_is_waited_out_all_the_same() -> None:
    contact, begin = Contact(), time.monotonic()
    contact.record(grpc.StatusCode.UNAVAILABLE)
    contact.pause(OtherCallGetsThrough(contact), FOR_EVER, at_least=1.5)
    assert time.monotonic() - begin >= 1.5


def test_a_long_outage_is_not_waited_out_once_the_server_answers_others() -> None:
    contact, stop, tries = Contact(), Stop(), []

    def attempt() -> str:
        tries.append(1)
        contact.record(grpc.StatusCode.UNAVAILABLE if len(tries) < 2 else grpc.StatusCode.OK)
        if len(tries) < 2:
            raise AWAY
        return "answered"

    assert persist(attempt, "it", make_test_log(), stop=stop, contact=contact) == "answered"
