"""A minimal HTTP/2 client connection for unary gRPC calls: many streams, with little work for each.

Made for load: it composes requests from prepared frames, and parses only the frame headers, the gRPC status
and, if requested, the messages of responses. A general client would use several times the CPU of the server
under test. RFC 9113 (frames, flow control), RFC 7541 (headers).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">HBBBI")
"""Length (16 high bits, 8 low bits), type, flags, stream."""

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 1, 2, 4
_MAX_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535

_FRAME_BYTES = 16_384
"""The largest payload of a frame that every peer accepts."""

_PREFIX_BYTES = 5
"""The prefix of each gRPC message: whether it is compressed, and its length."""

_TOP_UP_BYTES = 2**30
"""The number of received bytes after which the server's connection window is refilled."""

_SEVEN_BITS = 0x7F
_RECEIVE_BYTES = 2**18
_CONNECT_TIMEOUT_S = 10.0

_STATUS = b"grpc-status"

RESET = -1
"""Status of a call whose stream the server reset."""


class ProtocolError(Exception):
    """The server violated what we expect of a gRPC server under load; the text says how."""


class Call(NamedTuple):
    """A message with its own headers, as encoded by `header`."""

    message: bytes
    headers: bytes


def header(name: str, value: str) -> bytes:
    """A header field that goes into no table, because it differs in each call."""
    return b"\x10" + b"".join(_length(len(text)) + text.encode() for text in (name, value))


def _length(size: int) -> bytes:
    """Encodes a length in the low seven bits of a byte, or in more bytes (RFC 7541, 5.1)."""
    if size < _SEVEN_BITS:
        return bytes([size])
    left = size - _SEVEN_BITS
    more = bytearray([_SEVEN_BITS])
    while left > _SEVEN_BITS:
        more.append(0x80 | (left & _SEVEN_BITS))
        left >>= 7
    return bytes([*more, left])


@dataclass(slots=True)
class Answer:
    """A finished call: gRPC status, start time, size of its message, and the message if bodies are kept."""

    status: int
    begin: float
    size: int
    body: bytes


class Connection:
    """One connection on which all calls use the same method. Non-blocking; for one thread only."""

    def __init__(self, host: str, port: int, path: str, *, keep_bodies: bool = False) -> None:
        """Connects, and sends the preface and the settings."""
        self.socket = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)  # noqa: FBT003 (positional only)
        self._keep_bodies = keep_bodies
        self._headers, self._later_headers = _request_headers(f"{host}:{port}", path)
        self._next_stream = 1
        self._begun: dict[int, float] = {}
        self._sizes: dict[int, int] = {}
        self._bodies: dict[int, bytes] = {}
        self._input = b""
        self._received = 0
        self._window = _DEFAULT_WINDOW
        self._output = bytearray(_PREFACE)
        # With an empty table the server writes the status as plain text, which we find without decoding
        # headers. It costs the server about ten bytes per call.
        self._settings({_HEADER_TABLE_SIZE: 0, _ENABLE_PUSH: 0, _INITIAL_WINDOW_SIZE: _MAX_WINDOW})
        self._grant(_MAX_WINDOW - _DEFAULT_WINDOW)
        self.flush()

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return len(self._begun)

    @property
    def has_output(self) -> bool:
        """Whether bytes are waiting to be sent."""
        return bool(self._output)

    def close(self) -> None:
        """Closes the connection; calls in flight are lost."""
        self.socket.close()

    def call(self, call: bytes | Call, now: float) -> bool:
        """Queues a call; `flush` sends it. Returns False if the server's window is full now."""
        message, headers = (call, b"") if isinstance(call, bytes) else call
        size = len(message) + _PREFIX_BYTES
        if size > _DEFAULT_WINDOW:
            raise ProtocolError(f"a message of {size} bytes exceeds the window of a stream")
        if size > self._window:
            return False
        self._window -= size
        stream = self._next_stream
        self._next_stream = stream + 2
        self._begun[stream] = now
        self._write(_HEADERS, _END_HEADERS, stream, self._headers + headers)
        self._headers = self._later_headers
        body = b"\0" + len(message).to_bytes(4, "big") + message
        if size <= _FRAME_BYTES:
            self._write(_DATA, _END_STREAM, stream, body)
            return True
        for start in range(0, size, _FRAME_BYTES):
            chunk = body[start : start + _FRAME_BYTES]
            is_last = start + _FRAME_BYTES >= size
            self._write(_DATA, _END_STREAM if is_last else 0, stream, chunk)
        return True

    def flush(self) -> None:
        """Sends as much as the socket accepts."""
        try:
            sent = self.socket.send(self._output)
        except BlockingIOError:
            return
        del self._output[:sent]

    def receive(self, on_answer: Callable[[Answer], None]) -> None:
        """Reads the received bytes, and passes on each complete answer."""
        try:
            chunk = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            raise ProtocolError("the server closed the connection")
        data = self._input + chunk if self._input else chunk
        position, end = 0, len(data)
        unpack, sizes = _FRAME.unpack_from, self._sizes
        while end - position >= _FRAME.size:
            high, low, kind, flags, stream = unpack(data, position)
            begin = position + _FRAME.size
            after = begin + (high << 8 | low)
            if after > end:
                break
            position = after
            if kind == _DATA:
                sizes[stream] = sizes.get(stream, 0) + after - begin
                if self._keep_bodies:
                    self._bodies[stream] = self._bodies.get(stream, b"") + data[begin:after]
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    on_answer(self._finished(stream, data[begin:after]))
            else:
                self._control(kind, flags, stream, data[begin:after], on_answer)
        self._input = data[position:]
        if self._received > _TOP_UP_BYTES:
            self._grant(self._received)
            self._received = 0

    def _finished(self, stream: int, headers: bytes) -> Answer:
        at = headers.find(_STATUS)
        if at < 0:
            raise ProtocolError(f"no {_STATUS.decode()} in the trailers {headers!r}")
        at += len(_STATUS)
        # The name is followed by the length of the value and the value.
        status = int(headers[at + 1 : at + 1 + headers[at]])
        size = self._sizes.pop(stream, 0)
        self._received += size
        body = self._bodies.pop(stream, b"")[_PREFIX_BYTES:]
        return Answer(status, self._begun.pop(stream), max(0, size - _PREFIX_BYTES), body)

    def _control(
        self,
        kind: int,
        flags: int,
        stream: int,
        payload: bytes,
        on_answer: Callable[[Answer], None],
    ) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._write(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._write(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _RST_STREAM and stream in self._begun:
            on_answer(Answer(RESET, self._begun.pop(stream), 0, b""))
        elif kind == _GOAWAY:
            raise ProtocolError(f"the server ends the connection: {payload[8:]!r}")

    def _settings(self, values: dict[int, int]) -> None:
        payload = b"".join(struct.pack(">HI", name, value) for name, value in values.items())
        self._write(_SETTINGS, 0, 0, payload)

    def _grant(self, size: int) -> None:
        self._write(_WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))

    def _write(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._output += _FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream)
        self._output += payload


def _request_headers(authority: str, path: str) -> tuple[bytes, bytes]:
    """The headers of the first request of a connection, and those of all later ones.

    As in a real client, repeated headers go into the server's table, and later requests contain only
    their indexes there.
    """
    # Index of the name in the static table (0: the name is spelled out), name, value.
    fields = (
        (4, b"", path.encode()),
        (1, b"", authority.encode()),
        (31, b"", b"application/grpc"),
        (0, b"te", b"trailers"),
        (58, b"", b"grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)"),
        (0, b"grpc-timeout", b"60S"),
    )
    first = bytearray(b"\x83\x86")  # POST, http
    for index, name, value in fields:
        first.append(0x40 | index)
        for text in (name, value) if name else (value,):
            first.append(len(text))
            first += text
    # The dynamic table starts at 62, with the latest entry.
    later = b"\x83\x86" + bytes(0x80 | (61 + len(fields) - at) for at in range(len(fields)))
    return bytes(first), later
