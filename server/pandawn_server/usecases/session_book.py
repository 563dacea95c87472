"""Keys of sessions and pilots that have ended, as far as this process knows: a call asks no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from pandawn_server.domain.principals import Principal, Session
from pandawn_server.domain.sessions import (
    OpenedSession,
    SessionKey,
    principal_of,
    seal,
    signing_key,
    unseal,
)

DEFAULT_SESSION_LIFE = timedelta(hours=1)
"""Time for which a token is good; with half of it over, the pilot gets another one."""


class Sessions:
    """What this process knows of keys, and of the pilots whose sessions it has seen.

    Read by the event loop at each call and written by use cases in threads: every change is one
    assignment or one entry.
    """

    def __init__(self, life: timedelta = DEFAULT_SESSION_LIFE) -> None:
        self._life = life
        self._keys: Mapping[int, SessionKey] = {}
        self._seen: dict[str, OpenedSession] = {}
        self._ended: dict[str, datetime] = {}

    @property
    def has_keys(self) -> bool:
        """Whether any were read."""
        return bool(self._keys)

    @property
    def life(self) -> timedelta:
        """Time for which a new token is good."""
        return self._life

    def take_keys(self, keys: Iterable[SessionKey]) -> None:
        """Takes down the keys that there are now."""
        self._keys = {key.key_id: key for key in keys}

    def issue(self, session: Session, now: datetime) -> tuple[str, datetime]:
        """A token and when it expires."""
        key = signing_key(self._keys.values(), now)
        expire_time = now + self._life
        return seal(session, key, expire_time), expire_time

    def open(self, token: str, now: datetime) -> Principal:
        """Who shows a token. Raises `UnauthenticatedError`."""
        opened = unseal(token, self._keys, now)
        if opened.session.pilot_id:
            self._seen[opened.session.pilot_id] = opened
        return principal_of(opened)

    def renewed(self, principal: Principal, now: datetime) -> str:
        """Another token for a pilot whose session is half over; empty for any other caller."""
        session = principal.session
        if session is None or principal.expire_time is None:
            return ""
        if principal.expire_time - now > self._life / 2:
            return ""
        return self.issue(session, now)[0]

    def has_ended(self, principal: Principal) -> bool:
        """Whether it is a pilot that has ended, as far as this process knows."""
        return principal.session is not None and principal.session.pilot_id in self._ended

    def end(self, pilot_ids: Iterable[str], now: datetime) -> None:
        """Ends the sessions of pilots."""
        for pilot_id in pilot_ids:
            self._ended[pilot_id] = now
            self._seen.pop(pilot_id, None)

    def watched(self, now: datetime) -> list[str]:
        """Pilots whose sessions were seen and may still be good; others are forgotten."""
        for pilot_id, opened in list(self._seen.items()):
            if opened.expire_time <= now:
                self._seen.pop(pilot_id, None)
        oldest = now - self._life
        for pilot_id, end_time in list(self._ended.items()):
            if end_time < oldest:
                self._ended.pop(pilot_id, None)
        return list(self._seen)
