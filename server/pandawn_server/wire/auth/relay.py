"""Two connections joined: what comes in at one goes out at the other, no faster than it takes it."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast


class Side(asyncio.Protocol):
    """One of two connections. What comes before they are joined waits."""

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._other: Side | None = None
        self._early = bytearray()
        # Nothing more comes from it, and nothing more goes to it: with both, it is closed.
        self._has_ended = False
        self._is_finished = False

    @property
    def transport(self) -> asyncio.Transport:
        """The connection itself, once it is made."""
        assert self._transport is not None, "not connected"
        return self._transport

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """What TLS knows of the connection."""
        return cast("ssl.SSLObject", self.transport.get_extra_info("ssl_object"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reads nothing before there is somebody to give it to."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Passes it on."""
        if self._other is None:
            # What was decrypted together with the end of the handshake.
            self._early += data
        else:
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        """Passes on that no more will come; true where the other direction may stay open."""
        self._has_ended = True
        if self._other is None:
            return False
        self._other.end()
        return not self._is_finished and self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        """The other side shall wait: this one takes no more for now."""
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It takes more again."""
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the other side too, after what it was given is written."""
        del error
        if self._other is not None:
            self._other.transport.close()
        if not self.closed.done():
            self.closed.set_result(None)

    def end(self) -> None:
        """Says that nothing more will come; TLS knows no half-closed connections and closes."""
        if self.transport.is_closing():
            return
        self._is_finished = True
        if self.transport.can_write_eof() and not self._has_ended:
            self.transport.write_eof()
        else:
            self.transport.close()

    def abort(self) -> None:
        """Ends it at once."""
        if self._transport is not None:
            self._transport.abort()

    def pass_to(self, other: Side) -> None:
        """Gives all that comes from now on to the other side, beginning with what waits."""
        self._other = other
        if self._early:
            other.transport.write(bytes(self._early))
            self._early.clear()
        if self._has_ended or self.closed.done():
            other.end()
        elif not self.transport.is_closing():
            self.transport.resume_reading()


async def join(one: Side, two: Side) -> None:
    """Lets each pass to the other what comes, until both are closed."""
    one.pass_to(two)
    two.pass_to(one)
    await asyncio.gather(one.closed, two.closed)
