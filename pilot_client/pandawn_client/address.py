"""The address of a server, as all programs of a node read it."""

from __future__ import annotations

import argparse
import re

DEFAULT_PORT = 25443

_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)"
_ADDRESS = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?")


def parse_server(text: str) -> str:
    """`host:port` of `host` or `host:port`, or `unix:/path` as it is. Raises ValueError.

    gRPC takes any text for a name that may yet come to be, and would go on trying.
    """
    text = text.strip()
    if text.startswith("unix:/"):
        return text
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not the address of a server: write HOST:PORT or unix:/PATH")
    return f"{match['host']}:{port}"


def server_argument(text: str) -> str:
    """The same, for argparse. Raises argparse.ArgumentTypeError."""
    try:
        return parse_server(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
