"""Joins two connections: what one receives the other sends, with backpressure."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast


class Side(asyncio.Protocol):
    """One of two connections. Data that arrives before they are joined is kept."""

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._other: Side | None = None
        self._early = bytearray()
        # Whether it has sent its last byte, and whether it was sent its last byte: with both, it is closed.
        self._has_ended = False
        self._is_finished = False

    @property
    def transport(self) -> asyncio.Transport:
        """The connection itself, once established."""
        assert self._transport is not None, "not connected"
        return self._transport

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The TLS state of the connection."""
        return cast("ssl.SSLObject", self.transport.get_extra_info("ssl_object"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pauses reading until there is a side to pass data to."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Passes data on."""
        if self._other is None:
            # Decrypted together with the end of the handshake.
            self._early += data
        else:
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        """Passes on the end of data; returns True if the other direction may stay open."""
        self._has_ended = True
        if self._other is None:
            return False
        self._other.end()
        return not self._is_finished and self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        """Pauses the other side, because this one cannot take more now."""
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resumes the other side."""
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Closes the other side too, after it has written what it was given."""
        del error
        if self._other is not None:
            self._other.transport.close()
        if not self.closed.done():
            self.closed.set_result(None)

    def end(self) -> None:
        """Signals the end of data; TLS has no half-closed connections, so it closes them."""
        if self.transport.is_closing():
            return
        self._is_finished = True
        if self.transport.can_write_eof() and not self._has_ended:
            self.transport.write_eof()
        else:
            self.transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def pass_to(self, other: Side) -> None:
        """Passes all data to the other side from now on, starting with what was kept."""
        self._other = other
        if self._early:
            other.transport.write(bytes(self._early))
            self._early.clear()
        if self._has_ended or self.closed.done():
            other.end()
        elif not self.transport.is_closing():
            self.transport.resume_reading()


async def join(one: Side, two: Side) -> None:
    """Passes data in both directions until both sides are closed."""
    one.pass_to(two)
    two.pass_to(one)
    await asyncio.gather(one.closed, two.closed)
