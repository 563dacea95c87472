"""Rules for the values in documents, and the limit of removals in one change of the configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import cast

from pandawn_server.domain.catalog.file_version import immutable_scope_problem
from pandawn_server.domain.errors import Violation
from pandawn_server.domain.queues.host_pattern import compile_host_pattern
from pandawn_server.domain.queues.layers import NOT_IN, Level
from pandawn_server.domain.queues.queues import Value, bound_violations

PILOT_METHODS = ("x509", "token", "host", "local")
"""Authentication methods that a queue can accept for its pilots."""

UNASKED_REMOVALS = 4
"""A change without `allowed_removals` may delete or take offline one queue in this many."""


def removals_limit(queue_count: int) -> int:
    """Returns how many of `queue_count` queues a change without `allowed_removals` may remove: a quarter."""
    return queue_count // UNASKED_REMOVALS


def setting_violations(settings: Mapping[str, Value], level: Level) -> list[Violation]:
    """Returns the violations of the settings of a level, by parameter; the wire has checked the form of texts."""
    found = [
        Violation(name, f"cannot be set {_WHERE[level]}")
        for name in NOT_IN[level]
        if name in settings
    ]
    found += bound_violations(settings)
    for method in cast("tuple[str, ...]", settings.get("pilot_methods", ())):
        if method not in PILOT_METHODS:
            known = ", ".join(PILOT_METHODS)
            found.append(Violation("pilot_methods", f"{method[:64]!r} is not one of {known}"))
    for network in cast("tuple[str, ...]", settings.get("pilot_networks", ())):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            found.append(
                Violation(
                    "pilot_networks",
                    f"{network[:64]!r} must be a network, as in 192.0.2.0/24 or 2001:db8::/32",
                )
            )
    for entry in cast("tuple[str, ...]", settings.get("immutable_scopes", ())):
        problem = immutable_scope_problem(entry)
        if problem is not None:
            found.append(Violation("immutable_scopes", problem))
    found += _pattern_violations(cast("str", settings.get("pilot_host_pattern", "")))
    return found


_WHERE: Mapping[Level, str] = {
    Level.CLOUD: "for a cloud",
    Level.SITE: "for a site",
    Level.OVERRIDE: "by an override; set it in the document of the queue",
}


def _pattern_violations(pattern: str) -> list[Violation]:
    try:
        compile_host_pattern(pattern)
    except ValueError as error:
        return [Violation("pilot_host_pattern", f"is not a pattern of host names: it {error}")]
    return []
