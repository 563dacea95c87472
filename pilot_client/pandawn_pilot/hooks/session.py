"""Sessions of a node's tools other than pilots: opened at the first call, and renewed in time."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable

import grpc

from pandawn.filecatalog.v1.session_pb2 import OpenSessionRequest
from pandawn_client.calls import begin
from pandawn_client.connection import Connection
from pandawn_client.durations import seconds
from pandawn_client.errors import CredentialError
from pandawn_client.refusals import CallError
from pandawn_client.signing import Identity
from pandawn_pilot.credential_options import add_credential_options, read_credentials
from pandawn_pilot.hooks.command import UsageError, node_of, server_of
from pandawn_pilot.node.hardening import hide_memory
from pandawn_pilot.node.node_key import node_key


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the session with the server."""
    parser.add_argument(
        "--queue",
        help="queue that the node works for, which opens a session; not needed with a credential of the"
        " site's administrators (default: PANDAWN_QUEUE)",
    )
    add_credential_options(parser)


def connect(given: argparse.Namespace) -> Connection:
    """A connection with the credentials from the options. Raises UsageError."""
    hide_memory()
    server = server_of(given)
    try:
        credentials = read_credentials(given, server)
    except CredentialError as error:
        raise UsageError("CREDENTIALS", str(error)) from error
    queue = str(given.queue or os.environ.get("PANDAWN_QUEUE", ""))
    if not queue:
        return Connection(server, credentials, Identity(credentials.token_text, always=True))
    identity = HookIdentity(credentials.token_text)
    connection = Connection(server, credentials, identity)
    request = OpenSessionRequest(queue=queue, node=node_of(given), node_key=node_key())

    def open_session() -> tuple[str, float]:
        try:
            response = begin(connection.catalog.OpenSession, request)
        except CallError as failure:
            if failure.code is grpc.StatusCode.UNAVAILABLE:
                failure.add(connection.explain())
            raise
        return response.session_token, seconds(response.session_life)

    identity.open_session = open_session
    return connection


def helps_to_repeat(failure: CallError, connection: Connection) -> bool:
    """Whether a retry may succeed; without sessions, a refused credential stays refused."""
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        return failure.transient and isinstance(connection.identity, HookIdentity)
    return failure.transient


class HookIdentity(Identity):
    """Opens a session before the first call that needs one, and a new one after half of its life."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        # Returns the token of a new session and its life in seconds. Raises CallError.
        self.open_session: Callable[[], tuple[str, float]] = lambda: ("", 0.0)
        self._opening = threading.Lock()
        self._stale_at = float("-inf")
        self.on_refused = self._forget

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        """See Identity. Raises CallError if no session can be opened."""
        if not self.is_beginning(method):
            with self._opening:
                if time.monotonic() >= self._stale_at:
                    asked = time.monotonic()
                    token, life = self.open_session()
                    self.begin(token)
                    self._stale_at = asked + life / 2
        return super().metadata(method)

    def _forget(self) -> None:
        self._stale_at = float("-inf")
