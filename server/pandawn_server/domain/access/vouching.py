"""What a session was begun with, kept to be asked again: the credential, and how it is written down."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role
from pandawn_server.domain.errors import ForbiddenError

_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


def credential_of(by: Principal) -> Shown:
    """What a caller showed; for one that showed nothing, from where it called."""
    if by.shown is not None:
        return by.shown
    return Shown(by.method, "", by.subject, by.subject, by.expire_time or _FOR_EVER)


def write_credential(shown: Shown) -> str:
    """A credential in JSON; without secrets, for nothing in it is one."""
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
    """What `write_credential` wrote."""
    said = json.loads(text)
    return Shown(
        method=Method(said["method"]),
        issuer=said["issuer"],
        subject=said["subject"],
        readable=said["readable"],
        expire_time=datetime.fromtimestamp(said["expire"], UTC),
        groups=tuple(said["groups"]),
        scopes=None if said["scopes"] is None else frozenset(said["scopes"]),
        hosts=tuple(said["hosts"]),
        claims=said["claims"],
        limited=said["limited"],
        certificates=tuple((issuer, serial) for issuer, serial in said["certificates"]),
    )


def same_holder(one: Shown, other: Shown) -> bool:
    """Whether two credentials are of the same somebody, renewed or not."""
    return (one.method, one.issuer, one.subject) == (other.method, other.issuer, other.subject)


def vouched_by_itself(shown: Shown, now: datetime) -> Principal:
    """Judges what no file says anything of: callers of this machine, and addresses."""
    del now
    if shown.method is Method.LOCAL:
        return LOCAL_OPERATOR
    if shown.method is Method.HOST:
        return host_principal(shown.subject)
    raise ForbiddenError("NOT_ADMITTED", f"nobody here admits {shown.described}")


def host_principal(address: str) -> Principal:
    """A caller that is known by its address: good for beginning a session, and nothing else."""
    return Principal(
        name=f"host:{address}",
        method=Method.HOST,
        roles=frozenset({Role.PILOT}),
        rule="a worker node may bring pilots of queues that know it",
        subject=address,
    )
