"""One memcached of a pool: its connections, and whether it answers."""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import TypeVar

from pymemcache.client.base import Client
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

_FIRST_REST_S = 2.0
"""Pause before a lost server is tried again; doubled after each failure."""

_LONGEST_REST_S = 10.0

_MAX_STRAYED = 200_000
"""Maximum routes remembered per lost server. Caches report their state at every contact anyway, so for routes
dropped here an outdated state is only found later."""

_KEYS_AT_ONCE = 500

# The last two occur when pymemcache reads the answer of something that is not memcached.
_FAILURES = (OSError, MemcacheError, ValueError, KeyError)


class LostError(Exception):
    """The server does not answer; it is tried again after a pause."""


class NoRoomError(Exception):
    """The server reports that it cannot store a value."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits for a server of the pool."""

    connect: timedelta = timedelta(milliseconds=500)
    """For connecting: a server on the same network accepts in less than one millisecond."""

    answer: timedelta = timedelta(seconds=1)
    """For each piece of an answer. Memcached takes far less than a millisecond, but on a busy machine it may wait
    for its turn."""


class Connection(Client):  # type: ignore[misc]  # pymemcache has no types
    """A connection that tries all addresses of a name.

    pymemcache 4.0.0 tries only the first: for `localhost` that is `::1`, where memcached seldom listens.
    """

    def _connect(self) -> None:
        self.close()
        sock = socket.create_connection(self.server, timeout=self.connect_timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(self.timeout)
        self.sock = sock


class Member:
    """A server of the pool. Thread-safe.

    A server that fails is lost and not asked for a while, so that it costs one timeout every few seconds, not one
    per call. After the pause one caller checks it while others go on without it. Routes written elsewhere
    meanwhile have strayed: this server's values for them are outdated, and are deleted before it is used again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeouts: Timeouts,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._address = (host, port)
        self._timeouts = timeouts
        self._monotonic = monotonic
        self._idle: deque[Connection] = deque()
        self._lock = Lock()
        self._looking_after = Lock()
        self._lost_until: float | None = None
        self._rest_s = _FIRST_REST_S
        self._cause = ""
        self._strayed: set[str] = set()

    @property
    def is_lost(self) -> bool:
        """Whether the server did not answer last time."""
        return self._lost_until is not None

    @property
    def cause(self) -> str:
        """Why it is lost, as a sentence."""
        return f"memcached {self.name} does not answer: {self._cause}"

    def rest_left(self) -> float:
        """Seconds until a lost server may be checked again."""
        until = self._lost_until
        return 0.0 if until is None else max(0.0, until - self._monotonic())

    def call(self, run: Callable[[Connection], T]) -> T:
        """Runs commands over a connection. Raises `LostError`, or `NoRoomError`.

        Commands may run twice: connections that were idle while the server restarted are dead, but the server is
        not.
        """
        while True:
            try:
                connection, is_new = self._idle.pop(), False
            except IndexError:
                connection, is_new = self._connection(), True
            try:
                result = run(connection)
            except _FAILURES as error:
                connection.close()
                refused = isinstance(error, MemcacheServerError)
                if refused and not isinstance(error, MemcacheUnexpectedCloseError):
                    raise NoRoomError(_text(error)) from error
                if is_new or isinstance(error, TimeoutError):
                    self._lose(error)
                    raise LostError(self.cause) from error
                # The other idle connections are dead too.
                self.close()
            else:
                self._idle.append(connection)
                return result

    def stray(self, route: str) -> bool:
        """Records that a route of this lost server is about to be written elsewhere.

        Returns False if the server is back: then the route must not be written elsewhere.
        """
        with self._lock:
            if self._lost_until is None:
                return False
            if len(self._strayed) < _MAX_STRAYED:
                self._strayed.add(route)
            return True

    def look_after(self, forget_elsewhere: Callable[[Collection[str]], None]) -> None:
        """Checks whether a lost server answers again; does nothing while another thread does so.

        `forget_elsewhere` deletes strayed routes from the other servers: kept there, they would be outdated when
        this server is lost again.
        """
        if not self._looking_after.acquire(blocking=False):
            return
        try:
            self.call(lambda connection: connection.version())
            count = 0
            while strayed := self._strayed_or_found():
                self.call(partial(delete_keys, keys=strayed))
                forget_elsewhere(strayed)
                count += len(strayed)
                with self._lock:
                    self._strayed.difference_update(strayed)
            _log.info("memcached %s answers again; %d nodes must report anew", self.name, count)
        except (LostError, NoRoomError):
            with self._lock:
                self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
        finally:
            self._looking_after.release()

    def _strayed_or_found(self) -> list[str]:
        """The strayed routes; if there are none left, marks the server as found."""
        with self._lock:
            if not self._strayed:
                self._lost_until = None
                self._rest_s = _FIRST_REST_S
            return list(self._strayed)

    def _lose(self, error: Exception) -> None:
        with self._lock:
            was_lost = self._lost_until is not None
            self._lost_until = self._monotonic() + self._rest_s
            self._cause = _text(error)
        self.close()
        if not was_lost:
            _log.warning("%s; its nodes move to other servers of the pool, if any", self.cause)

    def _connection(self) -> Connection:
        return Connection(
            self._address,
            connect_timeout=self._timeouts.connect.total_seconds(),
            timeout=self._timeouts.answer.total_seconds(),
            default_noreply=False,
        )

    def close(self) -> None:
        """Closes idle connections."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                return


def delete_keys(connection: Connection, keys: Collection[str]) -> None:
    """Deletes keys, a few hundred at a time: more answers would fill the pipe unread."""
    listed = list(keys)
    for start in range(0, len(listed), _KEYS_AT_ONCE):
        connection.delete_many(listed[start : start + _KEYS_AT_ONCE], noreply=False)


def _text(error: Exception) -> str:
    """Describes an error in words: many of these have no text of their own."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, MemcacheUnexpectedCloseError):
        return "it closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    cause = error.args[0] if error.args else ""
    text = cause.decode(errors="replace") if isinstance(cause, bytes) else str(error)
    return text or type(error).__name__
