"""Measures the cost of the gate per call: `python -m pandawn_tools.bench.gate`.

The handler of a real call repeats the admission that the interceptor does once: with a session, without a
credential on loopback, and with a session among other metadata.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import grpc
import grpc.aio

from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Session
from pandawn_server.domain.access.sessions import SECRET_BYTES, SessionKey
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.auth.session import SessionAuthenticator
from pandawn_server.wire.auth.shown import enter_metadata
from pandawn_server.wire.edge.handlers import Handler, ServicerContext

METHOD = "/pandawn.dispatcher.v1.Dispatcher/AcquireJobs"
ROUNDS, ADMISSIONS = 7, 20_000

_Metadata = Sequence[tuple[str, str]]


async def measured(gate: Gate, metadata: _Metadata) -> float:
    """The microseconds of one admission, best of several rounds."""
    found: list[float] = []

    async def handle(request: bytes, context: ServicerContext) -> bytes:
        # As in the interceptor.
        enter_metadata(context.invocation_metadata())
        for _ in range(ROUNDS):
            begin = time.perf_counter_ns()
            for _ in range(ADMISSIONS):
                gate.admit(METHOD, context)
            found.append((time.perf_counter_ns() - begin) / ADMISSIONS / 1000)
        return request

    server = grpc.aio.server()
    handlers: dict[str, Handler] = {"Run": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Bench", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        run = channel.unary_unary("/Bench/Run", bytes, bytes)
        await run(b"", metadata=tuple(metadata))
    await server.stop(None)
    return min(found)


async def main() -> None:
    """Measure and print."""
    sessions = Sessions()
    now = datetime.now(UTC)
    sessions.take_keys([SessionKey(1, b"k" * SECRET_BYTES, now)])
    session = Session("0" * 32, "ANALY_T3", NodeKey("T3", "wn17.cluster.example.org"))
    token, _ = sessions.issue(session, now)
    gate = Gate(
        sessions=SessionAuthenticator(sessions),
        has_ended=sessions.has_ended,
        otherwise=LOCAL_OPERATOR,
    )
    cases: dict[str, _Metadata] = {
        "with a session": [("pandawn-session", token)],
        "with a session behind other metadata": [
            *((f"x-other-{number}", "x" * 40) for number in range(5)),
            ("pandawn-session", token),
        ],
        "on loopback, nothing shown": [],
    }
    for name, metadata in cases.items():
        print(f"{name}: {await measured(gate, metadata):.2f} us a call")
    begin = time.perf_counter_ns()
    for _ in range(ADMISSIONS):
        sessions.open(token, now)
    spent = (time.perf_counter_ns() - begin) / ADMISSIONS / 1000
    print(f"a session token read for the first time: {spent:.1f} us")
    begin = time.perf_counter_ns()
    for _ in range(ADMISSIONS):
        sessions.issue(session, now)
    spent = (time.perf_counter_ns() - begin) / ADMISSIONS / 1000
    print(f"a session token made: {spent:.1f} us")


if __name__ == "__main__":
    asyncio.run(main())
