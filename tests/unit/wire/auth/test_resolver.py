"""The name service is asked both ways, and may be wrong, slow or away."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from pandawn_server.domain.access.host_admission import HostFacts
from pandawn_server.wire.auth import resolver
from pandawn_server.wire.auth.resolver import SystemNames, ThreadedResolver, look_up


class Zones:
    """A name service of a test's own; what is no list of answers is raised."""

    def __init__(
        self,
        reverse: Mapping[str, Sequence[str] | OSError],
        forward: Mapping[str, Sequence[str] | OSError],
    ) -> None:
        self._reverse = reverse
        self._forward = forward

    def names(self, address: str) -> Sequence[str]:
        return self._answer(self._reverse, address)

    def addresses(self, name: str) -> Sequence[str]:
        return self._answer(self._forward, name)

    def _answer(self, zone: Mapping[str, Sequence[str] | OSError], what: str) -> Sequence[str]:
        found = zone.get(what, [])
        if isinstance(found, OSError):
            raise found
        return found


def test_a_name_that_leads_back_is_confirmed() -> None:
    zones = Zones({"10.1.0.5": ["WN5.example.org."]}, {"wn5.example.org": ["10.1.0.9", "10.1.0.5"]})
    name = ("wn5.example.org",)
    assert look_up(zones, "10.1.0.5") == HostFacts("10.1.0.5", name, name)


def test_a_name_that_leads_elsewhere_is_not() -> None:
    zones = Zones({"10.1.0.66": ["wn5.example.org"]}, {"wn5.example.org": ["10.1.0.5"]})
    assert look_up(zones, "10.1.0.66") == HostFacts("10.1.0.66", ("wn5.example.org",))


def test_an_address_written_as_a_name_does_not_lead_back_to_itself() -> None:
    zones = Zones({"10.1.0.66": ["10.1.0.66", "10.1.0.66."]}, {"10.1.0.66": ["10.1.0.66"]})
    assert look_up(zones, "10.1.0.66") == HostFacts("10.1.0.66")


def test_addresses_of_version_6_are_compared_by_value() -> None:
    zones = Zones({"2001:db8::5": ["wn5"]}, {"wn5": ["2001:0db8:0::0005"]})
    assert look_up(zones, "2001:db8::5").confirmed == ("wn5",)
    mapped = Zones({"10.1.0.5": ["wn5"]}, {"wn5": ["::ffff:10.1.0.5"]})
    assert look_up(mapped, "10.1.0.5").confirmed == ("wn5",)


def test_each_of_several_names_is_asked_for() -> None:
    zones = Zones(
        {"10.1.0.5": ["a.example.org", "b.example.org", "c.example.org"]},
        {"a.example.org": OSError("SERVFAIL"), "c.example.org": ["10.1.0.5"]},
    )
    facts = look_up(zones, "10.1.0.5")
    assert facts.reverse == ("a.example.org", "b.example.org", "c.example.org")
    assert facts.confirmed == ("c.example.org",)
    assert "a.example.org: SERVFAIL" in facts.problem


def test_a_name_service_that_is_away_is_a_problem_and_no_answer() -> None:
    facts = look_up(Zones({"10.1.0.5": OSError("timed out")}, {}), "10.1.0.5")
    assert facts.confirmed == ()
    assert facts.problem == "the name service does not answer for 10.1.0.5: timed out"


class Hanging:
    """A name service that does not answer until it is let."""

    def __init__(self) -> None:
        self.answer = threading.Event()

    def names(self, address: str) -> Sequence[str]:
        del address
        self.answer.wait(10)
        return []

    def addresses(self, name: str) -> Sequence[str]:
        raise AssertionError(name)


async def test_a_name_service_that_hangs_is_not_waited_for() -> None:
    hanging = Hanging()
    asking = ThreadedResolver(hanging, timeout=timedelta(milliseconds=20))
    facts = await asking.facts("10.1.0.5")
    hanging.answer.set()
    asking.close()
    assert facts.problem == "the name service does not answer"


async def test_while_it_hangs_questions_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_WAITING", 1)
    hanging = Hanging()
    asking = ThreadedResolver(hanging, timeout=timedelta(milliseconds=20))
    await asking.facts("10.1.0.5")
    refused = await asking.facts("10.1.0.6")
    hanging.answer.set()
    asking.close()
    assert refused.problem == "too many addresses are being resolved"


def test_the_system_knows_this_machine() -> None:
    names = SystemNames()
    assert "127.0.0.1" in names.addresses("localhost")
    assert "localhost" in look_up(names, "127.0.0.1").confirmed
