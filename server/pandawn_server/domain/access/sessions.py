"""Session tokens: what a pilot shows after its registration, sealed so that only this system can make them.

A token says itself what it is bound to and until when, so that no server needs to look it up:
`pandawn1.<number of the key>.<content>.<HMAC-SHA256 of all before>`, both in base64url. There is one
algorithm and no field that names it.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pandawn_server.domain.access.principals import Method, Principal, Role, Session
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import UnauthenticatedError

MAX_SESSION_LIFE = timedelta(days=1)
"""Longest life of a token: after it a key that signs no more is good for nothing."""

SECRET_BYTES = 32
"""Length of a key: that of the digest."""

MAX_TOKEN_CHARACTERS = 2048
"""Longest token that is read: names of 255 characters, and room."""

_PREFIX = "pandawn1"


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A key; it signs from `use_time` on, when all servers know it, until another does."""

    key_id: int
    secret: bytes
    use_time: datetime


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What a token says; the time has whole seconds."""

    session: Session
    expire_time: datetime


def signing_key(keys: Collection[SessionKey], now: datetime) -> SessionKey:
    """The newest key that is in use; the oldest where the clock says that none is yet."""
    in_use = [key for key in keys if key.use_time <= now]
    return max(in_use, key=lambda k: k.key_id) if in_use else min(keys, key=lambda k: k.key_id)


def worn_out(keys: Collection[SessionKey], now: datetime) -> list[SessionKey]:
    """Keys whose last tokens have expired."""
    ordered = sorted(keys, key=lambda key: key.key_id)
    return [
        key for key, successor in pairwise(ordered) if successor.use_time + MAX_SESSION_LIFE < now
    ]


def seal(session: Session, key: SessionKey, expire_time: datetime) -> str:
    """Makes the token of a session."""
    content = json.dumps(
        [
            session.pilot_id,
            session.queue,
            session.key.site,
            session.key.node,
            int(expire_time.timestamp()),
            0 if session.begin_time is None else int(session.begin_time.timestamp()),
        ],
        separators=(",", ":"),
    )
    signed = f"{_PREFIX}.{key.key_id}.{_encoded(content.encode())}"
    return f"{signed}.{_encoded(_mac(key, signed))}"


def unseal(token: str, keys: Mapping[int, SessionKey], now: datetime) -> OpenedSession:
    """Reads a token.

    Raises `UnauthenticatedError`: SESSION_INVALID for one that is not ours, SESSION_EXPIRED.
    """
    signed, _, shown_mac = token.rpartition(".")
    parts = signed.split(".")
    is_short = token.isascii() and len(token) <= MAX_TOKEN_CHARACTERS
    if not is_short or len(parts) != 3 or parts[0] != _PREFIX:
        raise _invalid("it is no session token of this system")
    key = keys.get(int(parts[1])) if parts[1].isdecimal() else None
    if key is None:
        raise _invalid("the key that it names is not known, or not any more")
    if not hmac.compare_digest(_encoded(_mac(key, signed)).encode(), shown_mac.encode()):
        raise _invalid("it was changed on its way, or made by somebody else")
    pilot_id, queue, site, node, expires, *begin = json.loads(_decoded(parts[2]))
    begin_time = datetime.fromtimestamp(begin[0], UTC) if begin and begin[0] else None
    opened = OpenedSession(
        Session(pilot_id, queue, NodeKey(site, node), begin_time),
        datetime.fromtimestamp(expires, UTC),
    )
    if opened.expire_time <= now:
        raise UnauthenticatedError(
            "SESSION_EXPIRED",
            f"the session expired at {opened.expire_time:%Y-%m-%d %H:%M:%S} UTC; register again with the "
            "same request_id, or open another session",
        )
    return opened


def principal_of(opened: OpenedSession) -> Principal:
    """Who shows a token: a pilot, or a tool of a node."""
    session = opened.session
    # A colon is in no name of a user.
    name = f"pilot:{session.pilot_id}" if session.pilot_id else f"node:{session.key.node}"
    return Principal(
        name=name,
        method=Method.SESSION,
        roles=frozenset({Role.PILOT}),
        rule="a session of this system",
        subject=f"{name} on {session.key.node} for {session.queue}",
        expire_time=opened.expire_time,
        session=session,
    )


def _invalid(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "SESSION_INVALID", f"the session token is not good: {why}; register again"
    )


def _mac(key: SessionKey, signed: str) -> bytes:
    return hmac.digest(key.secret, signed.encode(), "sha256")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
