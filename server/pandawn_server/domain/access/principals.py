"""Who calls: what an authenticator found out about a caller, and which rule let it in.

A principal is made where a call comes in and handed down as a value. What it may do with a method at
all is said in `wire/edge/policies.py`; what it may do with a task, a queue or a node is decided here.
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
    """What a caller is, in the words of the contracts."""

    PILOT = "pilot"
    USER = "user"
    SITE_ADMIN = "site-admin"
    OPERATOR = "operator"
    MONITOR = "monitor"


class Method(Enum):
    """How a caller showed who it is."""

    LOCAL = "local"
    """A Unix socket, or loopback on a listener without authenticators: somebody on this machine."""

    X509 = "x509"
    TOKEN = "token"  # noqa: S105 (the name of a method)
    HOST = "host"
    """The peer's address and its forward-confirmed name: good for a pilot's registration only."""

    SESSION = "session"
    """A session token, which a pilot or a pcache hook got from this system."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a session token is bound to. `pilot_id` is empty for a hook, which runs no jobs.

    `begin_time` is when its credential was last shown; None for tokens of before that was written down.
    """

    pilot_id: str
    queue: str
    key: NodeKey
    begin_time: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that was let in.

    `name` is the user name under which tasks are owned and outputs stored: unique among all callers,
    and safe as a part of a path. `subject` is what the credential says (a DN, issuer and subject of a
    token, a host name), `rule` the rule that admitted it, in words: both for the audit and the logs.
    `groups` are its groups as the credential gives them. `sites` are those that a site administrator
    looks after; a pilot that has any may work for their queues only. `scopes` are those of its token,
    without paths; None where the credential has no such thing, and the roles alone count. What was shown
    is good until `expire_time`; None: for as long as the call lasts, at least. `limited` says that it was
    delegated for anything but to start work (a limited proxy). `session` is what a session token is bound
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
        """Whether a site is its to configure."""
        return self.is_operator or (Role.SITE_ADMIN in self.roles and site in self.sites)


LOCAL_OPERATOR = Principal(
    name="",
    method=Method.LOCAL,
    roles=frozenset({Role.OPERATOR}),
    rule="callers on this machine are operators",
    subject="local",
)
"""Who calls through a Unix socket or loopback where nothing else is configured. It has no name of its
own: it says for which user it submits."""
