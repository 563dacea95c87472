"""Callers known by their address: enough to start a session, and for nothing else.

Whether an address may register pilots for a queue depends on the queue's rules and the name service; the
registration decides it (`usecases.access.admission`).
"""

from __future__ import annotations

from datetime import datetime

from pandawn_server.domain.access.host_admission import HostFacts, HostRules, is_in_networks
from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.access.vouching import host_principal
from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.usecases.access.admission import queue_to_serve
from pandawn_server.wire.auth.api import Evidence
from pandawn_server.wire.auth.peers import address_of
from pandawn_server.wire.deps import Deps


class HostAuthenticator:
    """Takes the address of the peer as the caller's identity."""

    name = Method.HOST.value
    expects = "a worker node that its queue knows by address and name"

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        """Returns a principal whose subject is the peer's address; any network peer has one."""
        del now
        address = address_of(evidence.peer)
        if address is None:
            raise UnauthenticatedError(
                "ADDRESS_UNKNOWN",
                "the caller's address is unknown: the proxy before this server did not forward it",
            )
        return host_principal(str(address))


async def host_facts(deps: Deps, queue_name: str, by: Principal) -> HostFacts | None:
    """Resolves the name of a caller that is known by its address; None for any other caller.

    Skips addresses that the queue does not take: strangers must not make the server query the name service.
    Raises `NotFoundError` (QUEUE_NOT_FOUND).
    """
    if by.method is not Method.HOST:
        return None
    queue = await deps.runner.run(queue_to_serve, deps.context, queue_name)
    if not is_in_networks(HostRules.of(queue), by.subject):
        return HostFacts(by.subject)
    return await deps.resolver.facts(by.subject)
