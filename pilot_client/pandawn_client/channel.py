"""A channel to a server: its options, and the proxy on the way, if any.

http_proxy and https_proxy of a node are meant for HTTP (CVMFS, Frontier), and such a proxy does not forward gRPC.
So a proxy is used only where the site sets grpc_proxy, and never for a server on the same machine.
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
# What other programs go by, and gRPC would, too.
_WEB_PROXIES = ("https_proxy", "http_proxy")

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A matched pair with the server's: it takes a ping each 10 s, more would be answered by a
    # disconnect. What a firewall has forgotten is found out about within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own pause between connection attempts grows to two minutes: too long after a server's
    # restart. The middle one is also the time that one attempt has, a TLS handshake over an ocean
    # included.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Pilots of one machine, or a pilot and its next life, share nothing; nor does a new line share
    # the connection of the one that it takes the place of.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(
    server: str,
    credentials: Credentials = NOTHING,
    identity: Identity | None = None,
    *,
    on_end: Callable[[grpc.StatusCode | None], None] = lambda _: None,
) -> tuple[grpc.Channel, grpc.Channel]:
    """Opens a channel to HOST:PORT or unix:PATH; nothing is sent before the first call.

    Returns it, to be closed, and the same with each call signed, for stubs. Without an `identity` calls
    show the credentials' token. `on_end` gets the status of each call that ended, in a thread of gRPC.
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
    """The proxy by which gRPC goes to a server, without a password in it; None: it goes directly."""
    proxy = os.environ.get(PROXY_VARIABLE, "")
    return None if not proxy or is_local(server) else without_password(proxy)


def proxy_hint(server: str) -> str:
    """What a message about a server that cannot be reached says of proxies; may be empty."""
    proxy = proxy_for(server)
    if proxy is not None:
        return f" (by way of the proxy {proxy}, as {PROXY_VARIABLE} says)"
    unused = next((name for name in _WEB_PROXIES if os.environ.get(name)), None)
    if unused is None or is_local(server):
        return ""
    return f" ({unused} is not used for gRPC; if only a proxy leads there, set {PROXY_VARIABLE})"


def without_password(url: str) -> str:
    """A proxy's URL as it may be printed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    return (
        url
        if "@" not in parts.netloc
        else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    )
