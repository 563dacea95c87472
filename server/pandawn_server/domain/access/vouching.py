"""The credential that started a session, stored so that it can be checked again while the session lasts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role
from pandawn_server.domain.errors import ForbiddenError

_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


def credential_of(by: Principal) -> Shown:
    """The credential of a caller; for one without a credential, its address."""
    if by.shown is not None:
        return by.shown
    return Shown(by.method, "", by.subject, by.subject, by.expire_time or _FOR_EVER)


def write_credential(shown: Shown) -> str:
    """A credential as JSON; it contains no secret."""
    return json.dumps(
        {
            "method": shown.method.value,
            "issuer": shown.issuer,
            "subject": shown.subject,
            "readable": shown.readable,
            "expire": int(shown.expire_time.timestamp()),
            "groups": shown.groups,
            "scopes": None if shown.scopes is None else sorted(shown.scopes),
            "hosts": shown.hosts,
            "claims": dict(shown.claims),
            "limited": shown.limited,
            "certificates": shown.certificates,
        },
        separators=(",", ":"),
        sort_keys=True,
    )


def read_credential(text: str) -> Shown:
    """Reads what `write_credential` wrote."""
    stored = json.loads(text)
    return Shown(
        method=Method(stored["method"]),
        issuer=stored["issuer"],
        subject=stored["subject"],
        readable=stored["readable"],
        expire_time=datetime.fromtimestamp(stored["expire"], UTC),
        groups=tuple(stored["groups"]),
        scopes=None if stored["scopes"] is None else frozenset(stored["scopes"]),
        hosts=tuple(stored["hosts"]),
        claims=stored["claims"],
        limited=stored["limited"],
        certificates=tuple((issuer, serial) for issuer, serial in stored["certificates"]),
    )


def same_holder(one: Shown, other: Shown) -> bool:
    """Whether two credentials have the same holder; a renewed credential does."""
    return (one.method, one.issuer, one.subject) == (other.method, other.issuer, other.subject)


def admit_without_rules(shown: Shown, now: datetime) -> Principal:
    """Admits callers that need no admission rule: local callers, and those with an address only.

    Raises `ForbiddenError` (NOT_ADMITTED) for all others.
    """
    del now
    if shown.method is Method.LOCAL:
        return LOCAL_OPERATOR
    if shown.method is Method.HOST:
        return host_principal(shown.subject)
    raise ForbiddenError("NOT_ADMITTED", f"this server has no rule that admits {shown.described}")


def host_principal(address: str) -> Principal:
    """A caller that is identified by its address only: it may start a session, and nothing else."""
    return Principal(
        name=f"host:{address}",
        method=Method.HOST,
        roles=frozenset({Role.PILOT}),
        rule="a worker node may register pilots of queues that list it",
        subject=address,
    )
