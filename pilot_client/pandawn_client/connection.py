"""The connection of a daemon: a channel that is replaced when it stalls, and its stubs."""

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

# Shortest time between two new lines; it doubles while no call succeeds ...
FRESH_LINE_SECONDS = 5.0
# ... up to this: more handshakes do not help a server that is only slow.
LONGEST_FRESH_LINE_SECONDS = 60.0
# How long the diagnosis of an unreachable server is cached.
EXPLAINED_SECONDS = 60.0


class Line:
    """One channel with its stubs. `number` counts the lines of a connection."""

    def __init__(self, number: int, channel: grpc.Channel, signed: grpc.Channel) -> None:
        self.number = number
        self.channel = channel
        self._signed = signed

    # Stubs are imported at first use: a hook that runs for each file needs the catalog's only.

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
    """The line to a server with its stubs; thread-safe.

    `server` is HOST:PORT or unix:PATH. `identity` signs the calls. After a call that timed out, the line may
    be dead without an error (a firewall dropped it, the server's machine lost power): further calls use a new
    line.
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
        # By time.monotonic(): no new line before.
        self._settled_at = float("-inf")
        self._pause = FRESH_LINE_SECONDS
        self._explain_at, self._explanation = float("-inf"), ""
        self._former: Line | None = None
        self._line = self._open(0)

    @property
    def line(self) -> int:
        """Number of the current line; it grows with each replacement."""
        return self._line.number

    @property
    def dispatcher(self) -> DispatcherStub:
        """The Dispatcher on the current line."""
        return self._line.dispatcher

    @property
    def catalog(self) -> FileCatalogStub:
        """The FileCatalog on the current line."""
        return self._line.catalog

    @property
    def queues(self) -> QueueConfigStub:
        """The QueueConfig on the current line."""
        return self._line.queues

    def explain(self) -> str:
        """The likely cause for messages about an unreachable server; may be empty.

        May take some seconds; the result is cached for a minute.
        """
        if time.monotonic() >= self._explain_at:
            self._explain_at = time.monotonic() + EXPLAINED_SECONDS
            trouble = find_trouble(self.server, self._credentials)
            self._explanation = f" ({trouble.cause})" if trouble else proxy_hint(self.server)
        return self._explanation

    def close(self) -> None:
        """Closes the lines; running calls are cancelled."""
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
                on_end=lambda code: self._record_end(number, code),
            ),
        )

    def _record_end(self, number: int, code: grpc.StatusCode | None) -> None:
        self.contact.record(code)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._replace_line(number)
        elif code is grpc.StatusCode.OK:
            self._pause = FRESH_LINE_SECONDS

    def _replace_line(self, number: int) -> None:
        """Replaces line `number` by a new one, unless that was just done.

        Running calls stay on the old one until they end, as the server may only be slow.
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
