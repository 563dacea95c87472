"""The connection of a daemon: a channel that is replaced when it falls silent, and the stubs on it."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from pandawn_client.channel import open_channel, proxy_hint
from pandawn_client.contact import Contact
from pandawn_client.credentials import NOTHING, Credentials
from pandawn_client.signing import Identity
from pandawn_client.tls_trouble import find_trouble

if TYPE_CHECKING:
    from pandawn.dispatcher.v1.dispatcher_pb2_grpc import DispatcherStub
    from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
    from pandawn.queueconfig.v1.queueconfig_pb2_grpc import QueueConfigStub

# From one fresh line to the next at least this, twice as long each time while nothing is answered ...
FRESH_LINE_SECONDS = 5.0
# ... up to this: to a server that is only slow, handshakes are no help.
LONGEST_FRESH_LINE_SECONDS = 60.0
# How long what was found out about a server that cannot be reached holds.
EXPLAINED_SECONDS = 60.0


class Line:
    """One channel and the stubs on it. `number` counts the lines of a connection."""

    def __init__(self, number: int, channel: grpc.Channel, signed: grpc.Channel) -> None:
        self.number = number
        self.channel = channel
        self._signed = signed

    # A stub is imported when it is used: a hook that runs for each file needs the catalog's alone.

    @cached_property
    def dispatcher(self) -> DispatcherStub:
        """The Dispatcher on this line."""
        from pandawn.dispatcher.v1.dispatcher_pb2_grpc import DispatcherStub

        return DispatcherStub(self._signed)

    @cached_property
    def catalog(self) -> FileCatalogStub:
        """The FileCatalog on this line."""
        from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub

        return FileCatalogStub(self._signed)

    @cached_property
    def queues(self) -> QueueConfigStub:
        """The QueueConfig on this line."""
        from pandawn.queueconfig.v1.queueconfig_pb2_grpc import QueueConfigStub

        return QueueConfigStub(self._signed)


class Connection:
    """The line to a server and the stubs on it; usable from all threads.

    `server` is HOST:PORT or unix:PATH. `identity` says what calls show. A line on which a call found no
    answer in its time may be dead without an error (a firewall has dropped it, the
    other machine lost its power): further calls go over another one.
    """

    def __init__(
        self,
        server: str,
        credentials: Credentials = NOTHING,
        identity: Identity | None = None,
    ) -> None:
        self.server = server
        self.identity = identity or Identity(credentials.token_text)
        self.contact = Contact()
        self._credentials = credentials
        self._lock = threading.Lock()
        # By time.monotonic(): before, no further line is opened.
        self._settled_at = float("-inf")
        self._pause = FRESH_LINE_SECONDS
        self._explain_at, self._explanation = float("-inf"), ""
        self._former: Line | None = None
        self._line = self._open(0)

    @property
    def line(self) -> int:
        """Number of the line in use; it grows when another one takes its place."""
        return self._line.number

    @property
    def dispatcher(self) -> DispatcherStub:
        """The Dispatcher on the line in use."""
        return self._line.dispatcher

    @property
    def catalog(self) -> FileCatalogStub:
        """The FileCatalog on the line in use."""
        return self._line.catalog

    @property
    def queues(self) -> QueueConfigStub:
        """The QueueConfig on the line in use."""
        return self._line.queues

    def explain(self) -> str:
        """Text for messages about a server that cannot be reached: the likely cause; may be empty.

        May take some seconds, but not at each call.
        """
        if time.monotonic() >= self._explain_at:
            self._explain_at = time.monotonic() + EXPLAINED_SECONDS
            trouble = find_trouble(self.server, self._credentials)
            self._explanation = f" ({trouble.cause})" if trouble else proxy_hint(self.server)
        return self._explanation

    def close(self) -> None:
        """Ends the line; running calls end as cancelled."""
        with self._lock:
            lines = [self._line] if self._former is None else [self._former, self._line]
        for line in lines:
            line.channel.close()

    def _open(self, number: int) -> Line:
        return Line(
            number,
            *open_channel(
                self.server,
                self._credentials,
                self.identity,
                on_end=lambda code: self._note_end(number, code),
            ),
        )

    def _note_end(self, number: int, code: grpc.StatusCode | None) -> None:
        self.contact.note(code)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._doubt(number)
        elif code is grpc.StatusCode.OK:
            self._pause = FRESH_LINE_SECONDS

    def _doubt(self, number: int) -> None:
        """Replaces line `number` by a new one, unless that was just done.

        Calls that still run on the old one end by themselves: the server may only be slow.
        """
        with self._lock:
            now = time.monotonic()
            if number != self._line.number or now < self._settled_at:
                return
            self._settled_at = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_FRESH_LINE_SECONDS)
            before_that, self._former = self._former, self._line
            self._line = self._open(number + 1)
        if before_that is not None:
            before_that.channel.close()
