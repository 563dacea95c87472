"""Callers: converts a principal into the answer of `WhoAmI`."""

from __future__ import annotations

from pandawn.broker.v1 import caller_pb2
from pandawn_server.domain.access.principals import Principal
from pandawn_server.wire.edge.enums import CALLER_METHOD, CALLER_ROLE
from pandawn_server.wire.edge.values import to_timestamp


def to_caller(principal: Principal) -> caller_pb2.Caller:
    """Returns all that the server knows about a caller: it may see everything about itself."""
    return caller_pb2.Caller(
        user=principal.name,
        method=CALLER_METHOD.to_wire(principal.method),
        subject=principal.subject,
        rule=principal.rule,
        roles=sorted(map(CALLER_ROLE.to_wire, principal.roles)),
        sites=sorted(principal.sites),
        groups=principal.groups,
        scopes=sorted(principal.scopes or ()),
        limited=principal.limited,
        expire_time=to_timestamp(principal.expire_time),
    )
