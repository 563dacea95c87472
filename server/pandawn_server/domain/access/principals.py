"""The identity of a caller: what its authenticator found out, and which rule admitted it.

A principal is made when a call arrives, and is passed down as a value. `wire/edge/policies.py` says which
methods it may call; this package decides which tasks, queues and nodes it may use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from pandawn_server.domain.catalog.inventory import NodeKey

if TYPE_CHECKING:
    from pandawn_server.domain.access.admission import Shown


class Role(Enum):
    """The roles of callers, as named in the contracts."""

    PILOT = "pilot"
    USER = "user"
    SITE_ADMIN = "site-admin"
    OPERATOR = "operator"
    MONITOR = "monitor"


class Method(Enum):
    """How a caller authenticated."""

    LOCAL = "local"
    """A Unix socket, or loopback on a listener without authenticators: a process on this machine."""

    X509 = "x509"
    TOKEN = "token"  # noqa: S105 (the name of a method)
    HOST = "host"
    """The peer's address and its forward-confirmed name: valid for starting a session only."""

    SESSION = "session"
    """A session token, which this system issued to a pilot or a pcache hook."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a session token is bound to. `pilot_id` is empty for a hook, which runs no jobs.

    `begin_time` is when its credential was last presented; None for tokens of versions that did not record it.
    """

    pilot_id: str
    queue: str
    key: NodeKey
    begin_time: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """An admitted caller.

    `name` is the user name that owns tasks and stores outputs: unique among all callers, and safe as a
    part of a path. `subject` comes from the credential (a DN, issuer and subject of a token, a host name);
    `rule` describes the rule that admitted it; both are for the audit and the logs. `groups` are the groups
    in the credential. `sites` are those that a site administrator administers; a pilot with any may work
    for their queues only. `scopes` are those of its token, without paths; None if the credential has no
    scopes, and only the roles count. The credential is valid until `expire_time`; None means at least for
    the duration of the call. `limited`: the delegated credential must not start work (a limited proxy).
    `session` is what a session token is bound
    to, with `Method.SESSION` only. `nodes` are the names that it may give the node that it calls from; None:
    its rule does not say. `shown` is what it showed, to be asked again while its session lasts.
    """

    name: str
    method: Method
    roles: frozenset[Role]
    rule: str
    subject: str = ""
    groups: tuple[str, ...] = ()
    sites: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    expire_time: datetime | None = None
    limited: bool = False
    session: Session | None = None
    nodes: frozenset[str] | None = None
    shown: Shown | None = field(default=None, compare=False, repr=False)

    @property
    def is_operator(self) -> bool:
        """Whether it may do everything."""
        return Role.OPERATOR in self.roles

    def administers(self, site: str) -> bool:
        """Whether it may configure a site."""
        return self.is_operator or (Role.SITE_ADMIN in self.roles and site in self.sites)


LOCAL_OPERATOR = Principal(
    name="",
    method=Method.LOCAL,
    roles=frozenset({Role.OPERATOR}),
    rule="callers on this machine are operators",
    subject="local",
)
"""The caller on a Unix socket or loopback without configured authentication. It has no user name: each
submission names its user."""
