"""Two joined connections: all bytes arrive, in order, and nothing is piled up in between."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pandawn_server.wire.auth.relay import Side, join


@dataclass
class Joined:
    """The outer ends of two joined connections, and the inner ones."""

    left: socket.socket
    right: socket.socket
    sides: tuple[Side, Side]
    joining: asyncio.Task[None]


@asynccontextmanager
async def joined(early: bytes = b"") -> AsyncIterator[Joined]:
    """A connection on each side of a relay; `early` is sent before they are joined."""
    loop = asyncio.get_running_loop()
    sides: list[Side] = []
    ends: list[socket.socket] = []
    for _ in range(2):
        outer, inner = socket.socketpair()
        outer.setblocking(False)  # noqa: FBT003 (its only argument)
        side = Side()
        await loop.create_unix_connection(partial(_same, side), sock=inner)
        sides.append(side)
        ends.append(outer)
    if early:
        await loop.sock_sendall(ends[0], early)
        await asyncio.sleep(0.05)
    joining = asyncio.ensure_future(join(sides[0], sides[1]))
    try:
        yield Joined(ends[0], ends[1], (sides[0], sides[1]), joining)
    finally:
        for end in ends:
            end.close()
        for side in sides:
            side.abort()
        await asyncio.wait_for(joining, 20)


def _same(side: Side) -> Side:
    return side


async def received(end: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 65536), 20)
        if not part:
            break
        content += part
    return bytes(content)


async def test_bytes_go_both_ways_at_once() -> None:
    loop = asyncio.get_running_loop()
    there, back = os.urandom(3_000_000), os.urandom(3_000_000)
    async with joined() as ends:
        got = await asyncio.gather(
            received(ends.right, len(there)),
            received(ends.left, len(back)),
            loop.sock_sendall(ends.left, there),
            loop.sock_sendall(ends.right, back),
        )
    assert (got[0], got[1]) == (there, back)


async def test_what_came_before_they_were_joined_is_not_lost() -> None:
    async with joined(b"hello") as ends:
        assert await received(ends.right, 5) == b"hello"


async def test_a_reader_that_stops_makes_the_writer_wait() -> None:
    loop = asyncio.get_running_loop()
    content = os.urandom(16_000_000)
    async with joined() as ends:
        writing = asyncio.ensure_future(loop.sock_sendall(ends.left, content))
        await asyncio.sleep(0.5)
        assert not writing.done()
        # 64 KiB is asyncio's high-water mark; one read may come on top of it.
        assert ends.sides[1].transport.get_write_buffer_size() < 1024 * 1024
        assert await received(ends.right, len(content)) == content
        await writing


async def test_one_direction_may_end_before_the_other() -> None:
    loop = asyncio.get_running_loop()
    async with joined() as ends:
        await loop.sock_sendall(ends.left, b"question")
        ends.left.shutdown(socket.SHUT_WR)
        assert await received(ends.right, 1000) == b"question"
        await loop.sock_sendall(ends.right, b"answer")
        assert await received(ends.left, 6) == b"answer"


async def test_when_one_end_goes_the_other_is_closed_after_its_last_byte() -> None:
    loop = asyncio.get_running_loop()
    content = os.urandom(1_000_000)
    async with joined() as ends:
        sending = asyncio.ensure_future(loop.sock_sendall(ends.left, content))
        got = await received(ends.right, 500_000)
        await sending
        ends.left.close()
        got += await received(ends.right, 10_000_000)
        assert got == content
        ends.right.close()
        await asyncio.wait_for(asyncio.shield(ends.joining), 20)
