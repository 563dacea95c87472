"""What a call shows about its caller, and the interface of those who read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pandawn_server.domain.access.principals import Principal

AUTHORIZATION = "authorization"
"""Metadata key of users' and pilots' tokens: `Bearer` and a JWT."""

SESSION = "pandawn-session"
"""Metadata key of session tokens."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a call shows.

    `peer` is in gRPC's form (`ipv4:1.2.3.4:567`, `ipv6:[::1]:567`, `unix:...`), or empty when a declared proxy
    did not name its client. `metadata` has lower-case keys. `certificates` is the chain of a verified client in
    DER, leaf first; empty if there is none.
    """

    peer: str
    metadata: Mapping[str, str]
    certificates: tuple[bytes, ...] = ()


class Authenticator(Protocol):
    """Reads one kind of credential. Called in the event loop, so it must not block."""

    @property
    def name(self) -> str:
        """Its name in a listener's options: `x509`, `token`, `host`, `local`."""
        ...

    @property
    def expects(self) -> str:
        """What a caller should show, in words that follow *this address takes*."""
        ...

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        """Returns the caller; None if it shows no credential of this kind.

        Raises `UnauthenticatedError` for a bad credential, with a reason that helps an honest caller.
        """
        ...
