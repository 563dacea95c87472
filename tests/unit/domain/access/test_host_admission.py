"""A node known by address and name alone is let in by all of it or not at all."""

from ipaddress import ip_network

import pytest

from pandawn_server.domain.access.host_admission import (
    MAX_NAMES,
    HostFacts,
    HostRules,
    admit_host,
    clean_names,
    is_in_networks,
)

RULES = HostRules(
    (ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48")), r"wn\d+\.example\.org"
)
HONEST = HostFacts("10.1.0.5", reverse=("wn5.example.org",), confirmed=("wn5.example.org",))


def why(facts: HostFacts, claimed: str, rules: HostRules = RULES) -> str:
    verdict = admit_host(rules, facts, claimed)
    assert not verdict.is_admitted
    assert not verdict.may_change
    return verdict.why


def test_an_honest_node_is_let_in_and_the_reason_kept() -> None:
    verdict = admit_host(RULES, HONEST, "wn5.example.org")
    assert verdict.is_admitted
    assert verdict.why == "10.1.0.5 is wn5.example.org, which the queue admits"


def test_a_name_of_the_reverse_zone_alone_is_worth_nothing() -> None:
    # Whoever owns the reverse zone of an address may call it anything.
    facts = HostFacts("10.1.0.66", reverse=("wn5.example.org",), confirmed=())
    told = why(facts, "wn5.example.org")
    assert told == "10.1.0.66 has the name wn5.example.org, which does not resolve back to it"


def test_an_address_outside_the_networks_is_refused_whatever_its_name() -> None:
    facts = HostFacts("198.51.100.7", ("wn5.example.org",), ("wn5.example.org",))
    assert why(facts, "wn5.example.org").startswith(
        "198.51.100.7 is in none of the queue's networks"
    )


def test_a_node_that_takes_anothers_name_is_told_both() -> None:
    told = why(HONEST, "wn6.example.org")
    assert told == "the node claims to be wn6.example.org, but 10.1.0.5 is wn5.example.org"


@pytest.mark.parametrize("claimed", ["wn5.example.org.", "WN5.example.org", "wn5", "", "10.1.0.5"])
def test_only_the_very_name_is_the_name(claimed: str) -> None:
    assert "claims to be" in why(HONEST, claimed)


def test_the_pattern_describes_the_whole_name() -> None:
    for name in ("wn5.example.org.evil.net", "xwn5.example.org", "wn5xexample.org"):
        facts = HostFacts("10.1.0.5", (name,), (name,))
        assert "which does not match the queue's pattern" in why(facts, name)


def test_of_several_names_any_that_fits_may_be_claimed_and_no_other() -> None:
    names = ("gw.example.org", "wn5.example.org", "wn7.example.org")
    facts = HostFacts("10.1.0.5", names, names)
    assert admit_host(RULES, facts, "wn7.example.org").is_admitted
    assert "claims to be gw.example.org" in why(facts, "gw.example.org")
    # Of two names one is the attacker's invention: it does not lead back.
    half = HostFacts("10.1.0.5", names, ("gw.example.org", "wn5.example.org"))
    assert "claims to be wn7.example.org" in why(half, "wn7.example.org")


def test_an_address_without_a_name_is_refused() -> None:
    assert why(HostFacts("10.1.0.5"), "wn5.example.org") == "10.1.0.5 has no name"


def test_a_name_service_that_is_down_lets_nobody_in_and_may_be_asked_again() -> None:
    facts = HostFacts("10.1.0.5", problem="the name service does not answer")
    verdict = admit_host(RULES, facts, "wn5.example.org")
    assert not verdict.is_admitted
    assert verdict.may_change


def test_trouble_with_one_name_does_not_hide_what_is_known() -> None:
    facts = HostFacts("10.1.0.5", ("gw.example.org",), ("gw.example.org",), problem="no answer")
    assert "the queue's pattern" in why(facts, "wn5.example.org")


@pytest.mark.parametrize("rules", [HostRules(), HostRules(RULES.networks), HostRules(pattern=".*")])
def test_a_queue_that_says_nothing_of_hosts_admits_none(rules: HostRules) -> None:
    assert why(HONEST, "wn5.example.org", rules) == (
        "the queue has no pilot_networks or no pilot_host_pattern"
    )


def test_networks_are_of_one_family() -> None:
    assert is_in_networks(RULES, "2001:db8:1::5")
    assert not is_in_networks(RULES, "2001:db8:2::5")
    # An address in the clothes of the other family was undressed where it came in.
    assert not is_in_networks(RULES, "::ffff:10.1.0.5")
    assert not is_in_networks(HostRules((ip_network("::/0"),), ".*"), "10.1.0.5")


def test_names_are_compared_in_lower_case_without_the_last_dot() -> None:
    assert clean_names(["WN5.Example.ORG.", "wn5.example.org"]) == ("wn5.example.org",)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "10.1.0.5",
        "2001:db8::1",
        "1.2.3",
        "wn5..example.org",
        "-wn5.example.org",
        "wn5.example.org\n",
        "wn5.example.org; drop",
        "wn5 .example.org",
        "\x1b[31mwn5.example.org",
        "wn5.exämple.org",
        "a" * 254,
    ],
)
def test_what_is_no_host_name_is_left_out(name: str) -> None:
    assert clean_names([name]) == ()


def test_an_attackers_thousand_names_are_not_all_looked_at() -> None:
    assert len(clean_names(f"wn{n}.example.org" for n in range(1000))) == MAX_NAMES
