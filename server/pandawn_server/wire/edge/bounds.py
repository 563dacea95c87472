"""Limits what one caller may use at a time: calls, streams, messages being read, registrations.

A caller is an identity, wherever it calls from; callers without one count by address. Operators have no limits. Each
process counts by itself: with two servers a caller has twice as much.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from pandawn_server.domain.access.principals import Principal, Role
from pandawn_server.domain.errors import ExhaustedError

RETRY_AFTER = timedelta(seconds=2)
"""When a refused caller should retry: some of its calls have ended by then."""

MAX_READS = 8
"""Messages read at a time for one caller at one address; others wait. Each may take 32 MiB."""

LARGE_BYTES_PER_SECOND = 4 * 1024 * 1024
"""Rate limit for one caller's file lists: decoding and checking them blocks all other callers."""

LARGE_BYTES = 1024 * 1024
"""Size from which a message counts as large."""

REGISTRATIONS_BURST = 2000
"""Pilots that one credential may register at once: those of a site that starts."""

REGISTRATIONS_PER_SECOND = 50.0
"""Pilots that it may register per second after that."""

_FORGET_ABOVE = 1000
"""Number of accounts at which idle ones are removed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Maximum calls in flight of one caller, and how many of them may be response streams and request streams.

    A request stream, such as a sandbox or an inventory, stays in memory until it is complete.
    """

    calls: int
    streams: int
    uploads: int = 4


CALLERS = Allowance(calls=200, streams=50)
"""For a user or a pilot; a pilot of 128 slots has about 130 calls in flight when all report at once."""

DAEMONS = Allowance(calls=2000, streams=1000)
"""For a monitor, which calls for all its viewers."""

STRANGERS = Allowance(calls=20, streams=4)
"""For an address without credentials, and the methods that anybody may call."""


@dataclass(slots=True)
class _Account:
    calls: int = 0
    streams: int = 0
    uploads: int = 0
    reads: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    large_from_s: float = 0.0
    registrations: float = REGISTRATIONS_BURST
    counted_s: float = 0.0

    def is_idle(self, now_s: float) -> bool:
        rested = self.registrations + (now_s - self.counted_s) * REGISTRATIONS_PER_SECOND
        return not self.calls and self.large_from_s <= now_s and rested >= REGISTRATIONS_BURST


@dataclass(slots=True)
class Visit:
    """An admitted call, and what it uses."""

    account: _Account
    reader: _Account
    is_stream: bool
    is_upload: bool


_VISIT: ContextVar[Visit | None] = ContextVar("pandawn_visit", default=None)


class Bounds:
    """Counts what each caller uses. Use from the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def enter(
        self,
        principal: Principal | None,
        address: str,
        *,
        is_stream: bool,
        is_upload: bool = False,
        registers: bool = False,
    ) -> Visit | None:
        """Counts a call and returns it, for `leave`; returns None for a caller without limits.

        Raises `ExhaustedError`: TOO_MANY_CALLS, TOO_MANY_STREAMS, TOO_MANY_REGISTRATIONS.
        """
        if principal is not None and principal.is_operator:
            _VISIT.set(None)
            return None
        who, allowance = _who(principal, address)
        account = self._account(who)
        if account.calls >= allowance.calls:
            raise _too_many("TOO_MANY_CALLS", "calls in flight", allowance.calls)
        if is_stream and account.streams >= allowance.streams:
            raise _too_many("TOO_MANY_STREAMS", "streams", allowance.streams)
        if is_upload and account.uploads >= allowance.uploads:
            raise _too_many("TOO_MANY_STREAMS", "streams of requests", allowance.uploads)
        if registers:
            self._register(account)
        visit = Visit(account, self._account(f"{who} at {address}"), is_stream, is_upload)
        account.calls += 1
        account.streams += is_stream
        account.uploads += is_upload
        # Reads count per address too: when all share one token, one node must not stop the others.
        visit.reader.calls += 1
        _VISIT.set(visit)
        return visit

    def leave(self, visit: Visit | None) -> None:
        """Ends a call that `enter` counted."""
        if visit is None:
            return
        visit.account.calls -= 1
        visit.account.streams -= visit.is_stream
        visit.account.uploads -= visit.is_upload
        visit.reader.calls -= 1

    def _register(self, account: _Account) -> None:
        now_s = self._clock()
        account.registrations = min(
            REGISTRATIONS_BURST,
            account.registrations + (now_s - account.counted_s) * REGISTRATIONS_PER_SECOND,
        )
        account.counted_s = now_s
        if account.registrations < 1:
            raise ExhaustedError(
                "TOO_MANY_REGISTRATIONS",
                f"this credential registers more than {REGISTRATIONS_PER_SECOND:.0f} pilots per second",
                retry_after=RETRY_AFTER,
            )
        account.registrations -= 1

    def _account(self, who: str) -> _Account:
        found = self._accounts.get(who)
        if found is None:
            now_s = self._clock()
            if len(self._accounts) >= _FORGET_ABOVE:
                # Removes idle accounts, which hold no information; otherwise a flood of addresses would stay for ever.
                self._accounts = {
                    name: account
                    for name, account in self._accounts.items()
                    if not account.is_idle(now_s)
                }
            found = self._accounts[who] = _Account(counted_s=now_s)
        return found


class Reading:
    """Context manager for reading a request: at most `MAX_READS` at a time for one caller."""

    def __init__(self) -> None:
        visit = _VISIT.get()
        self._account = None if visit is None else visit.reader

    async def __aenter__(self) -> None:
        """Waits for a free place."""
        account = self._account
        if account is None:
            return
        while account.reads >= MAX_READS:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            account.waiting.append(turn)
            try:
                await turn
            except BaseException:
                _wake(account)
                raise
        account.reads += 1

    async def __aexit__(self, *raised: object) -> None:
        """Wakes the next waiting read."""
        account = self._account
        if account is not None:
            account.reads -= 1
            _wake(account)


async def pace_large() -> None:
    """Waits until the caller may send another large message."""
    visit = _VISIT.get()
    if visit is None:
        return
    # Several calls may wait for the same moment: the first one to pass makes the others wait again.
    while (wait_s := visit.account.large_from_s - time.monotonic()) > 0:  # noqa: ASYNC110 (it waits for a time)
        await asyncio.sleep(wait_s)


def count_work(spent_s: float) -> None:
    """Makes the caller's next large messages wait for as long as this one kept all other callers waiting."""
    visit = _VISIT.get()
    if visit is not None:
        account = visit.account
        account.large_from_s = max(time.monotonic(), account.large_from_s) + spent_s


async def give_way(spent_s: float) -> None:
    """Lets other callers have their turn within a message, after work of `spent_s` seconds on it."""
    count_work(spent_s)
    await asyncio.sleep(0)
    await pace_large()


def count_large(size: int) -> None:
    """Counts a decoded message of `size` bytes against the caller's rate, if it is large."""
    visit = _VISIT.get()
    if visit is not None and size >= LARGE_BYTES:
        begin_s = max(time.monotonic(), visit.account.large_from_s)
        visit.account.large_from_s = begin_s + size / LARGE_BYTES_PER_SECOND


def _wake(account: _Account) -> None:
    while account.waiting:
        turn = account.waiting.popleft()
        if not turn.done():
            turn.set_result(None)
            return


def _who(principal: Principal | None, address: str) -> tuple[str, Allowance]:
    if principal is None:
        return f"? {address}", STRANGERS
    who = f"{principal.method.value} {principal.name or principal.subject}"
    return who, DAEMONS if Role.MONITOR in principal.roles else CALLERS


def _too_many(reason: str, what: str, most: int) -> ExhaustedError:
    return ExhaustedError(
        reason,
        f"the caller already has {most} {what}, the maximum; end some, or retry",
        metadata={"limit": str(most)},
        retry_after=RETRY_AFTER,
    )
