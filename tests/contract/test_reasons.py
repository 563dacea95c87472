"""Each method lists the reasons that its code can give, with the status that goes with them."""

from __future__ import annotations

import re

import pytest

from dev.api_rules import ANY_METHOD, OF_ANY_METHOD
from dev.generate_api_reference import ERROR_LINE
from pandawn_server.wire.services import SERVICERS
from tests.contract.test_proto_rules import RPCS, Rpc, each_rpc, reasons_in
from tests.fixtures.reachable import Place, reasons_from

# What these are refused, they keep: a session that is not renewed is answered with the session of before.
KEEP_REFUSALS = frozenset({"renew_session"})

IMPOSSIBLE = {
    # The same code writes what is left, which is never more than was there.
    "UnpinFiles": {"TOO_MANY_PINS"},
    # It sends no etags.
    "Rollback": {"STALE_ETAG"},
    # The method wants a session, which is seen to before it begins.
    "DownloadSandbox": {"NOT_YOUR_PILOT"},
}
"""What is found and cannot happen, by method."""

KNOWN = {reason for rpc in RPCS for reason in reasons_in(rpc)} | OF_ANY_METHOD


def listed(rpc: Rpc) -> set[str]:
    """The reasons of a method, those of another one that it names among them."""
    reasons = reasons_in(rpc)
    for name in re.findall(r"^ Errors\b.* those of `(\w+)`", rpc.comment, re.MULTILINE):
        (other,) = (found for found in RPCS if found.name == f"{rpc.service}/{name}")
        reasons |= reasons_in(other)
    return reasons


@each_rpc
def test_a_method_lists_each_reason_that_its_code_can_give(rpc: Rpc) -> None:
    servicer = getattr(SERVICERS[rpc.service], rpc.method.name)
    found = reasons_from(Place(servicer.__module__, servicer.__qualname__), KEEP_REFUSALS)
    excused = OF_ANY_METHOD | IMPOSSIBLE.get(rpc.method.name, set())
    missing = {reason: way for reason, way in found.items() if reason in KNOWN}
    assert {r: way for r, way in missing.items() if r not in listed(rpc) | excused} == {}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_is_excused_is_still_found(name: str) -> None:
    (rpc,) = (rpc for rpc in RPCS if rpc.method.name == name)
    servicer = getattr(SERVICERS[rpc.service], name)
    found = reasons_from(Place(servicer.__module__, servicer.__qualname__))
    assert IMPOSSIBLE[name] <= found.keys()
    assert not IMPOSSIBLE[name] & listed(rpc)


def test_a_reason_goes_with_one_status() -> None:
    pairs = [(reason, status) for status, reasons, _ in ANY_METHOD for reason in reasons]
    for rpc in RPCS:
        for status, reasons in ERROR_LINE.findall(rpc.comment):
            pairs += [(reason, status) for reason in reasons.split(", ")]
    statuses: dict[str, set[str]] = {}
    for reason, status in pairs:
        statuses.setdefault(reason, set()).add(status)
    assert {reason: found for reason, found in statuses.items() if len(found) > 1} == {}
