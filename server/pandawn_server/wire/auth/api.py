"""What a call shows of its caller, and those who can read it."""

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

    `peer` is as gRPC gives it (`ipv4:1.2.3.4:567`, `ipv6:[::1]:567`, `unix:...`), and empty when a
    declared proxy did not say for whom it speaks. `metadata` has lower-case keys. `certificates` are
    those of a verified client in DER, the leaf first; empty without one.
    """

    peer: str
    metadata: Mapping[str, str]
    certificates: tuple[bytes, ...] = ()


class Authenticator(Protocol):
    """Knows one kind of credential. Called in the event loop: it never waits for anything."""

    @property
    def name(self) -> str:
        """Its name in the options of a listener: `x509`, `token`, `host`, `local`."""
        ...

    @property
    def expects(self) -> str:
        """What a caller should show, in words that follow *this address takes*."""
        ...

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        """Who calls; None when nothing of this kind was shown.

        Raises `UnauthenticatedError` for a credential that is bad, with a reason that helps the honest.
        """
        ...
