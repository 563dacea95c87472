"""Keys of sessions and pilots that have ended, as far as this process knows: a call asks no database."""

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
from pandawn_server.domain.access.vouching import vouched_by_itself

DEFAULT_LONGEST_LIFE = timedelta(days=7)
"""Time for which renewals may go on; then the pilot shows its credential again, with the same `request_id`."""

DEFAULT_SESSION_LIFE = timedelta(hours=1)
"""Time for which a token is good; with half of it over, the pilot gets another one."""


class Judge(Protocol):
    """Knows who a credential is now that was good before."""

    def judge(self, shown: Shown, now: datetime) -> Principal:
        """Raises `UnauthenticatedError` and `ForbiddenError`; looks not at when it expires."""
        ...

    def outlives(self, shown: Shown) -> timedelta:
        """For how long sessions may be renewed after it has expired."""
        ...

    def changes(self) -> int:
        """How often what is known has changed."""
        ...


class OnlyThisMachine:
    """Knows callers that show nothing: of this machine, and by their addresses."""

    def judge(self, shown: Shown, now: datetime) -> Principal:
        """See `Judge`."""
        return vouched_by_itself(shown, now)

    def outlives(self, shown: Shown) -> timedelta:
        """See `Judge`."""
        del shown
        return timedelta(0)

    def changes(self) -> int:
        """See `Judge`."""
        return 0


class Sessions:
    """What this process knows of keys, and of the pilots whose sessions it has seen.

    Read by the event loop at each call and written by use cases in threads: every change is one
    assignment or one entry.
    """

    def __init__(
        self,
        life: timedelta = DEFAULT_SESSION_LIFE,
        longest: timedelta = DEFAULT_LONGEST_LIFE,
        judge: Judge | None = None,
    ) -> None:
        """`longest` is for how long a session may be renewed, `judge` who is asked again about its credential."""
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

    def is_half_over(self, principal: Principal, now: datetime) -> bool:
        """Whether a caller is a pilot that is to get another token."""
        if principal.session is None or principal.expire_time is None:
            return False
        return principal.expire_time - now <= self._life / 2

    def has_ended(self, principal: Principal) -> bool:
        """Whether it is a pilot that has ended, as far as this process knows, or whose credential counts no more."""
        session = principal.session
        if session is None:
            return False
        if session.pilot_id in self._ended:
            return True
        barred = self._barred.get(session.pilot_id)
        # Who has shown a good credential since has another session.
        return barred is not None and (session.begin_time is None or session.begin_time <= barred)

    def bar(self, pilot_id: str, now: datetime) -> None:
        """Ends the sessions of a pilot that began before now; it may begin another."""
        self._barred[pilot_id] = now

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
        for pilot_id, bar_time in list(self._barred.items()):
            if bar_time < oldest:
                self._barred.pop(pilot_id, None)
        return list(self._seen)
