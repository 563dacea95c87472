"""Session tokens say what they are bound to, and only who has the key can make one."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from pandawn_server.domain.access.principals import Method, Role, Session
from pandawn_server.domain.access.sessions import (
    MAX_SESSION_LIFE,
    SessionKey,
    expired_keys,
    principal_of,
    seal,
    signing_key,
    unseal,
)
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import UnauthenticatedError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = SessionKey(1, b"k" * 32, NOW - HOUR)
SESSION = Session("p" * 32, "ANALY_T3", NodeKey("T3", "wn1.example.org"))


def token(session: Session = SESSION, key: SessionKey = KEY, life: timedelta = HOUR) -> str:
    return seal(session, key, NOW + life)


def refused(shown: str, now: datetime = NOW, key: SessionKey = KEY) -> str:
    with pytest.raises(UnauthenticatedError) as error:
        unseal(shown, {key.key_id: key}, now)
    return error.value.reason


def test_a_token_says_what_it_is_bound_to() -> None:
    opened = unseal(token(), {1: KEY}, NOW)
    assert opened.session == SESSION
    assert opened.expire_time == NOW + HOUR


def test_it_goes_through_metadata_as_it_is() -> None:
    odd = Session("p", "Q", NodeKey("Zürich ☃", "wn"))
    sealed = token(odd)
    assert sealed.isascii()
    assert sealed.isprintable()
    assert " " not in sealed
    assert unseal(sealed, {1: KEY}, NOW).session == odd


def test_it_is_good_until_it_expires_and_not_at_that_moment() -> None:
    unseal(token(), {1: KEY}, NOW + HOUR - timedelta(seconds=1))
    assert refused(token(), NOW + HOUR) == "SESSION_EXPIRED"


def test_a_change_of_any_character_is_found() -> None:
    sealed = token()
    for position in range(len(sealed)):
        other = "B" if sealed[position] == "A" else "A"
        changed = sealed[:position] + other + sealed[position + 1 :]
        # The last character of a base64 text has bits that mean nothing: it is compared as text.
        assert refused(changed) == "SESSION_INVALID"


def test_another_content_needs_another_seal() -> None:
    head, number, _, mac = token().split(".")
    content = json.dumps(["x", "ANALY_T3", "T3", "wn2", int((NOW + HOUR).timestamp())])
    forged = base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()
    assert refused(f"{head}.{number}.{forged}.{mac}") == "SESSION_INVALID"
    assert refused(f"{head}.{number}.{forged}.") == "SESSION_INVALID"


def test_the_key_of_another_system_is_no_key_here() -> None:
    strange = SessionKey(1, b"x" * 32, NOW)
    assert refused(token(key=strange)) == "SESSION_INVALID"
    assert refused(token(key=SessionKey(2, b"k" * 32, NOW))) == "SESSION_INVALID"


@pytest.mark.parametrize(
    "shown",
    [
        "",
        ".",
        "...",
        "pandawn1",
        "pandawn1.1.",
        "pandawn1.1..",
        "pandawn1.\u0661.e30.x",
        "pandawn1.-1.e30.x",
        "pandawn1.one.e30.x",
        "pandawn2.1.e30.x",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwIn0.",
        "pandawn1." + "9" * 2000 + ".e30.x",
        "pandawn1.1." + "A" * 3000 + ".x",
        "pandawn1.1.\udcff.x",
        "☃" * 10,
    ],
)
def test_what_is_no_token_is_refused_and_breaks_nothing(shown: str) -> None:
    assert refused(shown) == "SESSION_INVALID"


def test_who_shows_it_is_a_pilot_and_nothing_else() -> None:
    principal = principal_of(unseal(token(), {1: KEY}, NOW))
    assert principal.method is Method.SESSION
    assert principal.roles == {Role.PILOT}
    assert principal.session == SESSION
    assert principal.expire_time == NOW + HOUR
    assert not principal.administers("T3")
    tool = principal_of(unseal(token(Session("", "Q", SESSION.key)), {1: KEY}, NOW))
    assert tool.name == "node:wn1.example.org"


def test_a_new_key_signs_when_all_servers_know_it() -> None:
    second = SessionKey(2, b"n" * 32, NOW + timedelta(minutes=1))
    assert signing_key([KEY, second], NOW) is KEY
    assert signing_key([KEY, second], NOW + timedelta(minutes=1)) is second
    # The clock of this server is behind the one that made the first.
    assert signing_key([second], NOW) is second


def test_a_key_is_worn_out_when_its_last_token_has_expired() -> None:
    second = SessionKey(2, b"n" * 32, NOW)
    assert expired_keys([KEY, second], NOW + MAX_SESSION_LIFE) == []
    assert expired_keys([second, KEY], NOW + MAX_SESSION_LIFE + HOUR) == [KEY]
    assert expired_keys([KEY], NOW + MAX_SESSION_LIFE * 100) == []
