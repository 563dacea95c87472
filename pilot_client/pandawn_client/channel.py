"""A channel to a server: its options, and a proxy if one is set.

http_proxy and https_proxy of a node are for HTTP (CVMFS, Frontier); such a proxy does not forward gRPC. So a
proxy is used only if the site sets grpc_proxy, and never for a server on the same machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit

import grpc

from pandawn_client.address import is_local
from pandawn_client.credentials import NOTHING, Credentials
from pandawn_client.signing import Bearer, Identity, Signer

# The server takes requests up to this size. Its replies keep to gRPC's default limit.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
PROXY_VARIABLE = "grpc_proxy"
# Variables that other programs use, and gRPC would, too.
_WEB_PROXIES = ("https_proxy", "http_proxy")

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Must match the server's limit: it accepts a ping every 10 s and disconnects on more. Detects within half
    # a minute that a firewall has dropped the connection.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's default pause between connection attempts grows to two minutes: too long after a restart of the
    # server. The second value is also the time for one attempt, including a slow TLS handshake.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # No shared connections: a new line must not get the connection of the line that it replaces.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(
    server: str,
    credentials: Credentials = NOTHING,
    identity: Identity | None = None,
    *,
    on_end: Callable[[grpc.StatusCode | None], None] = lambda _: None,
) -> tuple[grpc.Channel, grpc.Channel]:
    """Opens a channel to HOST:PORT or unix:PATH; sends nothing before the first call.

    Returns the channel, which the caller closes, and the same with signed calls, for stubs. Without an
    `identity` calls carry the credentials' token. `on_end` gets the status of each call, in a thread of gRPC.
    """
    options = (*_OPTIONS, ("grpc.enable_http_proxy", int(proxy_for(server) is not None)))
    secured = credentials.channel()
    if secured is None:
        channel = grpc.insecure_channel(server, options=options)
    else:
        channel = grpc.secure_channel(server, secured, options=options)
    if identity is None:
        identity = Bearer(credentials.token)
    return channel, grpc.intercept_channel(channel, Signer(identity, on_end))


def proxy_for(server: str) -> str | None:
    """The proxy that gRPC uses for a server, without its password; None: no proxy."""
    proxy = os.environ.get(PROXY_VARIABLE, "")
    return None if not proxy or is_local(server) else without_password(proxy)


def proxy_hint(server: str) -> str:
    """A hint about proxies for messages about an unreachable server; may be empty."""
    proxy = proxy_for(server)
    if proxy is not None:
        return f" (through the proxy {proxy}, set by {PROXY_VARIABLE})"
    unused = next((name for name in _WEB_PROXIES if os.environ.get(name)), None)
    if unused is None or is_local(server):
        return ""
    return f" ({unused} is not used for gRPC; if the server needs a proxy, set {PROXY_VARIABLE})"


def without_password(url: str) -> str:
    """A proxy's URL without its password, to print."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    return (
        url
        if "@" not in parts.netloc
        else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    )
