"""The grid-free way in: a worker node is known by its address and by its name, and by nothing else.

All of it must hold: the address lies in the queue's networks; a name that the name service gives for the
address leads back to the address; the queue's pattern describes that whole name; and the node claims that
name and no other. Whoever owns the reverse zone of an address can give it any name, but not make that name
lead back; whoever owns a forward zone cannot make the address lie in the networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pandawn_server.domain.queues.host_pattern import compile_host_pattern
from pandawn_server.domain.queues.queues import Queue

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_NAMES = 16
"""Names of one address that are looked at."""

_HOST = re.compile(r"(?!\d+\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_MAX_HOST_CHARACTERS = 253


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the name service says of an address.

    `told` are the names that it has by the reverse zone, `confirmed` those of them that lead back to the
    address; both as `clean_names` leaves them. `problem` says why the name service gave no good answer.
    """

    address: str
    told: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HostRules:
    """What a queue asks of nodes that are known by address and name."""

    networks: tuple[Network, ...] = ()
    pattern: str = ""

    @classmethod
    def of(cls, queue: Queue) -> HostRules:
        """Those of a queue, whose networks and pattern were checked when they were set."""
        return cls(tuple(map(ip_network, queue.pilot_networks)), queue.pilot_host_pattern)


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """Whether a node is let in, and why or why not, in words that follow *because*.

    `may_change` says that the same question may get another answer soon: the name service is down.
    """

    is_admitted: bool
    why: str
    may_change: bool = False


def clean_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of hosts in lower case without the last dot, each once; what is no host name is left out.

    An address written as a name is none: it would lead back to itself.
    """
    found: dict[str, None] = {}
    for name in names:
        lower = name.lower().removesuffix(".")
        if len(lower) <= _MAX_HOST_CHARACTERS and _is_host_name(lower):
            found[lower] = None
        if len(found) == MAX_NAMES:
            break
    return tuple(found)


def _is_host_name(name: str) -> bool:
    labels = name.split(".")
    # All labels but the last may be numbers.
    return all(_HOST.fullmatch(label) or label.isdecimal() for label in labels) and bool(
        _HOST.fullmatch(labels[-1])
    )


def is_in_networks(rules: HostRules, address: str) -> bool:
    """Whether an address may come at all: asked before the name service is."""
    parsed = ip_address(address)
    return any(parsed.version == n.version and parsed in n for n in rules.networks)


def admit_host(rules: HostRules, facts: HostFacts, claimed: str) -> HostVerdict:
    """Judges a node that claims to be `claimed`, a name in lower case."""
    if not rules.networks or not rules.pattern:
        return _refused("the queue has no pilot_networks or no pilot_host_pattern")
    if not is_in_networks(rules, facts.address):
        networks = ", ".join(map(str, rules.networks))
        return _refused(f"{facts.address} is in none of the queue's networks ({networks})")
    if not facts.confirmed:
        if facts.problem:
            return HostVerdict(
                is_admitted=False,
                why=f"the name of {facts.address} cannot be confirmed: {facts.problem}",
                may_change=True,
            )
        if facts.told:
            return _refused(
                f"{facts.address} is called {_listed(facts.told)}, which does not lead back to it"
            )
        return _refused(f"{facts.address} has no name")
    fitting = _fitting(rules.pattern, facts.confirmed)
    if not fitting:
        return _refused(
            f"{facts.address} is {_listed(facts.confirmed)}, which the queue's pattern does not describe"
        )
    if claimed not in fitting:
        return _refused(
            f"the node claims to be {claimed}, and {facts.address} is {_listed(fitting)}"
        )
    return HostVerdict(is_admitted=True, why=f"{facts.address} is {claimed}, which the queue knows")


def _fitting(pattern: str, names: Iterable[str]) -> list[str]:
    compiled = compile_host_pattern(pattern)
    return [name for name in names if compiled.matches(name)]


def _refused(why: str) -> HostVerdict:
    return HostVerdict(is_admitted=False, why=why)


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)
