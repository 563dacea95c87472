"""Fetches a small file from a web server, with a time limit for the whole transfer."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Self

DOWNLOAD_TIMEOUT_S = 20.0
"""Limit for the whole transfer: a server that sends a byte now and then never exceeds the limit of one read."""

_STEP_TIMEOUT_S = 10.0
"""Limit for connecting, and for each read."""


class _Deadline:
    """Shuts the connections it watches when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()

    def watch(self, connection: socket.socket) -> None:
        """Watches one more connection."""
        with self._lock:
            self._sockets.append(connection)
            if self.is_over:
                _shut(connection)

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            for connection in self._sockets:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    # Not closed: the reading thread does that, and the descriptor may belong to another file by then.
    with suppress(OSError, ValueError):
        connection.shutdown(socket.SHUT_RDWR)


class _Secured(http.client.HTTPSConnection):
    """An HTTPS connection that the deadline watches."""

    deadline: _Deadline

    def connect(self) -> None:
        """Connects, with TLS; only the step limit applies until then."""
        super().connect()
        self.deadline.watch(self.sock)


class _Plain(http.client.HTTPConnection):
    """The same without TLS: for this machine only."""

    deadline: _Deadline

    def connect(self) -> None:
        """Connects."""
        super().connect()
        self.deadline.watch(self.sock)


# Derived from both, or urllib would add its own handler for http.
class _Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections that the deadline watches."""

    def __init__(self, context: ssl.SSLContext, deadline: _Deadline) -> None:
        super().__init__(context=context)
        self._tls = context
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Opens a connection with TLS."""
        return self.do_open(self._secured, req)  # type: ignore[arg-type] # it passes no other arguments

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Opens a connection without TLS."""
        return self.do_open(self._plain, req)  # type: ignore[arg-type] # as above

    def _secured(self, host: str, *, timeout: float) -> http.client.HTTPConnection:
        made = _Secured(host, context=self._tls, timeout=timeout)
        made.deadline = self._deadline
        return made

    def _plain(self, host: str, *, timeout: float) -> http.client.HTTPConnection:
        made = _Plain(host, timeout=timeout)
        made.deadline = self._deadline
        return made


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirects: the site configured this address and no other."""

    def redirect_request(self, *args: object) -> None:
        """Returns None, which makes the answer an error."""
        del args


def download(
    url: str, authority: Path | None, max_bytes: int, timeout_s: float = DOWNLOAD_TIMEOUT_S
) -> bytes:
    """Returns the content of a web address; `authority` is a CA file for servers that the system does not trust.

    Raises `OSError`, `http.client.HTTPException`, and `ValueError` for more than `max_bytes`.
    """
    context = ssl.create_default_context(cafile=authority)
    with _Deadline(timeout_s) as deadline:
        opener = urllib.request.build_opener(_Handler(context, deadline), _NoRedirects())
        try:
            with opener.open(url, timeout=min(_STEP_TIMEOUT_S, timeout_s)) as response:
                content: bytes = response.read(max_bytes + 1)
        except (OSError, http.client.HTTPException) as error:
            if deadline.is_over:
                raise TimeoutError(f"it did not arrive within {timeout_s:.0f} s") from error
            raise
    if deadline.is_over:
        # A body without a length ends with the connection, so a cut looks like its end.
        raise TimeoutError(f"it did not arrive within {timeout_s:.0f} s")
    if len(content) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes")
    return content
