"""Parses the address of a server; used by all programs."""

from __future__ import annotations

import ipaddress
import re

DEFAULT_PORT = 25443

_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)"
_ADDRESS = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?")

# Prefixes of addresses that gRPC accepts.
_SCHEME = re.compile(r"(dns:(//[^/]*/)?|ipv4:|ipv6:)", re.IGNORECASE)


def parse_server(text: str) -> str:
    """Returns `host:port` for `host` or `host:port`, or `unix:/path` unchanged. Raises ValueError.

    gRPC accepts any text as a name, and would retry it for ever.
    """
    text = text.strip()
    if text.startswith("unix:/"):
        return text
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not the address of a server: write HOST:PORT or unix:/PATH")
    return f"{match['host']}:{port}"


def is_socket(server: str) -> bool:
    """Whether the address is a socket file."""
    return server.startswith(("unix:", "unix-abstract:"))


def is_local(server: str) -> bool:
    """Whether the server is on this machine, so that no data crosses a network."""
    if is_socket(server):
        return True
    host = _SCHEME.sub("", server).rpartition(":")[0].strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
