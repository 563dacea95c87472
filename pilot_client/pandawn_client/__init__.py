"""The client library: how a program talks to a Pandawn server. See docs/client-library.md.

`Client` is for programs that end: commands, scripts, web pages. `Connection` with `call` and `persist` is
for daemons, such as the pilot. Everything that fails raises `CallError` or `CredentialError`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandawn_client.calls import begin, call, call_with_stream, check_size, persist, read_stream
    from pandawn_client.channel import MAX_MESSAGE_BYTES, open_channel
    from pandawn_client.client import Client, new_request_id
    from pandawn_client.connection import Connection
    from pandawn_client.credentials import NOTHING, Credentials, Given, find_credentials
    from pandawn_client.errors import CredentialError, Violation
    from pandawn_client.pages import iterate, read_pages
    from pandawn_client.policy import COMMAND, DAEMON, FOLLOWER, Backoff, Patience
    from pandawn_client.refusals import CallError, failure_of

# Imported at first use: a program that needs one part, such as `file_version`, does not load gRPC.
_HOMES = {
    "Backoff": "policy",
    "COMMAND": "policy",
    "CallError": "refusals",
    "Client": "client",
    "Connection": "connection",
    "CredentialError": "errors",
    "Credentials": "credentials",
    "DAEMON": "policy",
    "FOLLOWER": "policy",
    "Given": "credentials",
    "MAX_MESSAGE_BYTES": "channel",
    "NOTHING": "credentials",
    "Patience": "policy",
    "Violation": "errors",
    "begin": "calls",
    "call": "calls",
    "call_with_stream": "calls",
    "check_size": "calls",
    "failure_of": "refusals",
    "find_credentials": "credentials",
    "iterate": "pages",
    "new_request_id": "client",
    "open_channel": "channel",
    "persist": "calls",
    "read_pages": "pages",
    "read_stream": "calls",
}

__all__ = [
    "COMMAND",
    "DAEMON",
    "FOLLOWER",
    "MAX_MESSAGE_BYTES",
    "NOTHING",
    "Backoff",
    "CallError",
    "Client",
    "Connection",
    "CredentialError",
    "Credentials",
    "Given",
    "Patience",
    "Violation",
    "begin",
    "call",
    "call_with_stream",
    "check_size",
    "failure_of",
    "find_credentials",
    "iterate",
    "new_request_id",
    "open_channel",
    "persist",
    "read_pages",
    "read_stream",
]


def __getattr__(name: str) -> object:
    """Imports a name of `__all__` from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
