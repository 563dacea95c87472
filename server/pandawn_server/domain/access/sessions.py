"""Session tokens: credentials that a pilot uses after its registration, signed so that only this system can make them.

A token contains what it is bound to and its expiry, so that no server needs to look it up:
`pandawn1.<key number>.<content>.<HMAC-SHA256 of all before>`, the last two in base64url. There is only one
algorithm, and no field names it.
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
"""The longest life of a token. A key can be deleted this long after it stopped signing."""

SECRET_BYTES = 32
"""Length of a key: the same as of the digest."""

MAX_TOKEN_CHARACTERS = 2048
"""The longest token that is read: enough for names of 255 characters."""

_PREFIX = "pandawn1"


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A key. It signs from `use_time` on, when all servers know it, until a newer key does."""

    key_id: int
    secret: bytes
    use_time: datetime


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """The content of a token; the time has whole seconds."""

    session: Session
    expire_time: datetime


def signing_key(keys: Collection[SessionKey], now: datetime) -> SessionKey:
    """The newest key that is in use; the oldest one if none is in use yet."""
    in_use = [key for key in keys if key.use_time <= now]
    return max(in_use, key=lambda k: k.key_id) if in_use else min(keys, key=lambda k: k.key_id)


def expired_keys(keys: Collection[SessionKey], now: datetime) -> list[SessionKey]:
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
        raise _invalid("it is not a session token of this system")
    key = keys.get(int(parts[1])) if parts[1].isdecimal() else None
    if key is None:
        raise _invalid("its signing key is unknown or was deleted")
    if not hmac.compare_digest(_encoded(_mac(key, signed)).encode(), shown_mac.encode()):
        raise _invalid("its signature does not match its content")
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
    """The caller with this token: a pilot, or a tool of a node."""
    session = opened.session
    # The colon cannot occur in user names.
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
        "SESSION_INVALID", f"the session token is not valid: {why}; register again"
    )


def _mac(key: SessionKey, signed: str) -> bytes:
    return hmac.digest(key.secret, signed.encode(), "sha256")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
