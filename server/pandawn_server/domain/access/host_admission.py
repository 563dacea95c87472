"""Admission of worker nodes by address and name only, without grid credentials.

All conditions must hold: the address is in the queue's networks; a name in its reverse DNS resolves back to the
address; the queue's pattern matches that whole name; and the node claims exactly that name. The owner of a reverse
zone can give an address any name, but cannot make that name resolve back. The owner of a forward zone cannot move
an address into the networks.
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
"""The largest number of names of one address that are checked."""

_HOST = re.compile(r"(?!\d+\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_MAX_HOST_CHARACTERS = 253


@dataclass(frozen=True, slots=True)
class HostFacts:
    """DNS results for an address.

    `reverse` are the names in its reverse DNS; `confirmed` are those of them that resolve back to the address.
    Both are as `clean_names` returns them. `problem` says why the name service gave no usable answer.
    """

    address: str
    reverse: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HostRules:
    """A queue's rules for nodes that are admitted by address and name."""

    networks: tuple[Network, ...] = ()
    pattern: str = ""

    @classmethod
    def of(cls, queue: Queue) -> HostRules:
        """The rules of a queue, whose networks and pattern were validated when they were set."""
        return cls(tuple(map(ip_network, queue.pilot_networks)), queue.pilot_host_pattern)


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """Whether a node is admitted; `why` is the reason, as text that can follow *because*.

    `may_change`: a retry may get another result, because the name service is unavailable now.
    """

    is_admitted: bool
    why: str
    may_change: bool = False


def clean_names(names: Iterable[str]) -> tuple[str, ...]:
    """Valid host names in lower case, without the final dot and without duplicates; drops all others.

    Drops addresses in the form of a name too: they would resolve to themselves.
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
    # All labels except the last may be numbers.
    return all(_HOST.fullmatch(label) or label.isdecimal() for label in labels) and bool(
        _HOST.fullmatch(labels[-1])
    )


def is_in_networks(rules: HostRules, address: str) -> bool:
    """Whether an address is in one of the networks; checked before any DNS query."""
    parsed = ip_address(address)
    return any(parsed.version == n.version and parsed in n for n in rules.networks)


def admit_host(rules: HostRules, facts: HostFacts, claimed: str) -> HostVerdict:
    """Decides about a node that claims the name `claimed`, given in lower case."""
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
        if facts.reverse:
            return _refused(
                f"{facts.address} has the name {_listed(facts.reverse)}, which does not resolve back to it"
            )
        return _refused(f"{facts.address} has no name")
    fitting = _fitting(rules.pattern, facts.confirmed)
    if not fitting:
        return _refused(
            f"{facts.address} is {_listed(facts.confirmed)}, which does not match the queue's pattern"
        )
    if claimed not in fitting:
        return _refused(
            f"the node claims to be {claimed}, but {facts.address} is {_listed(fitting)}"
        )
    return HostVerdict(
        is_admitted=True, why=f"{facts.address} is {claimed}, which the queue admits"
    )


def _fitting(pattern: str, names: Iterable[str]) -> list[str]:
    compiled = compile_host_pattern(pattern)
    return [name for name in names if compiled.matches(name)]


def _refused(why: str) -> HostVerdict:
    return HostVerdict(is_admitted=False, why=why)


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)
