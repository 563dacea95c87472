"""The session keys and ended pilots that this process knows, so that checking a call needs no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import Principal, Session
from pandawn_server.domain.access.sessions import (
    OpenedSession,
    SessionKey,
    principal_of,
    seal,
    signing_key,
    unseal,
)
from pandawn_server.domain.access.vouching import admit_without_rules

DEFAULT_LONGEST_LIFE = timedelta(days=7)
"""How long a session can be renewed; then the pilot registers again, with its credential and `request_id`."""

DEFAULT_SESSION_LIFE = timedelta(hours=1)
"""How long a token is valid; after half of it the pilot gets a new one."""


class Judge(Protocol):
    """Checks again a credential that was valid when its session started."""

    def judge(self, shown: Shown, now: datetime) -> Principal:
        """The principal of the credential now. Ignores its expiry.

        Raises `UnauthenticatedError` and `ForbiddenError`.
        """
        ...

    def outlives(self, shown: Shown) -> timedelta:
        """For how long sessions can be renewed after the credential has expired."""
        ...

    def changes(self) -> int:
        """The number of changes of the rules so far."""
        ...


class OnlyThisMachine:
    """Admits callers without a credential only: those on this machine, and those with an address only."""

    def judge(self, shown: Shown, now: datetime) -> Principal:
        """See `Judge`."""
        return admit_without_rules(shown, now)

    def outlives(self, shown: Shown) -> timedelta:
        """See `Judge`."""
        del shown
        return timedelta(0)

    def changes(self) -> int:
        """See `Judge`."""
        return 0


class Sessions:
    """The session keys of this process, and the pilots whose sessions it has seen.

    The event loop reads it at each call, and use cases write it in threads: each change is one assignment
    or one dictionary entry.
    """

    def __init__(
        self,
        life: timedelta = DEFAULT_SESSION_LIFE,
        longest: timedelta = DEFAULT_LONGEST_LIFE,
        judge: Judge | None = None,
    ) -> None:
        """`longest` is how long a session can be renewed; `judge` checks its credential again."""
        self._life = life
        self.longest = longest
        self.judge: Judge = judge or OnlyThisMachine()
        self._barred: dict[str, datetime] = {}
        self.judged_at = -1
        self._keys: Mapping[int, SessionKey] = {}
        self._seen: dict[str, OpenedSession] = {}
        self._ended: dict[str, datetime] = {}

    @property
    def has_keys(self) -> bool:
        """Whether keys have been read."""
        return bool(self._keys)

    @property
    def life(self) -> timedelta:
        """How long a new token is valid."""
        return self._life

    def take_keys(self, keys: Iterable[SessionKey]) -> None:
        """Replaces the keys."""
        self._keys = {key.key_id: key for key in keys}

    def issue(self, session: Session, now: datetime) -> tuple[str, datetime]:
        """Issues a token; returns it with its expiry time."""
        key = signing_key(self._keys.values(), now)
        expire_time = now + self._life
        return seal(session, key, expire_time), expire_time

    def open(self, token: str, now: datetime) -> Principal:
        """The caller with a token. Raises `UnauthenticatedError`."""
        opened = unseal(token, self._keys, now)
        if opened.session.pilot_id:
            self._seen[opened.session.pilot_id] = opened
        return principal_of(opened)

    def is_half_over(self, principal: Principal, now: datetime) -> bool:
        """Whether a caller's token has passed half of its life, so that it needs a new one."""
        if principal.session is None or principal.expire_time is None:
            return False
        return principal.expire_time - now <= self._life / 2

    def has_ended(self, principal: Principal) -> bool:
        """Whether a caller is a pilot known to have ended, or one whose credential was rejected."""
        session = principal.session
        if session is None:
            return False
        if session.pilot_id in self._ended:
            return True
        barred = self._barred.get(session.pilot_id)
        # A pilot that has presented a valid credential since then has another session.
        return barred is not None and (session.begin_time is None or session.begin_time <= barred)

    def bar(self, pilot_id: str, now: datetime) -> None:
        """Ends a pilot's sessions that started before now; it can start another."""
        self._barred[pilot_id] = now

    def end(self, pilot_ids: Iterable[str], now: datetime) -> None:
        """Ends the sessions of pilots."""
        for pilot_id in pilot_ids:
            self._ended[pilot_id] = now
            self._seen.pop(pilot_id, None)

    def watched(self, now: datetime) -> list[str]:
        """The pilots whose sessions were seen and may still be valid; drops all older records."""
        for pilot_id, opened in list(self._seen.items()):
            if opened.expire_time <= now:
                self._seen.pop(pilot_id, None)
        oldest = now - self._life
        for pilot_id, end_time in list(self._ended.items()):
            if end_time < oldest:
                self._ended.pop(pilot_id, None)
        for pilot_id, bar_time in list(self._barred.items()):
            if bar_time < oldest:
                self._barred.pop(pilot_id, None)
        return list(self._seen)
