"""One server at several addresses, socket files among them, each with a gate of its own."""

from __future__ import annotations

import asyncio
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.listeners import parse_listener
from pandawn_server.telemetry.api import OFF
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.auth.host import HostAuthenticator
from pandawn_server.wire.auth.peers import forwarded_peer
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.handlers import Handler, ServicerContext
from pandawn_server.wire.edge.listening import StartError
from pandawn_server.wire.edge.server import Door, EdgeServer, Listening, Service

ECHO = "pandawn.test.v1.Echo"
# A method whose policy lets hosts in.
REGISTER = "pandawn.dispatcher.v1.Dispatcher"

LOCAL = Gate(otherwise=LOCAL_OPERATOR)


async def who(request: StringValue, context: ServicerContext) -> StringValue:
    """Answers who the caller is."""
    del request, context
    return StringValue(value=caller().rule)


def service(name: str, method: str) -> Service:
    handlers: dict[str, Handler] = {
        method: grpc.unary_unary_rpc_method_handler(
            who, StringValue.FromString, StringValue.SerializeToString
        )
    }
    handler = grpc.method_handlers_generic_handler(name, handlers)
    return Service(name, lambda server: server.add_generic_rpc_handlers([handler]))


@asynccontextmanager
async def serving(*doors: Door) -> AsyncIterator[list[str]]:
    server = EdgeServer(
        [service(ECHO, "Who"), service(REGISTER, "RegisterPilot")],
        Listening(doors, reuse_port=False, max_connection_age=timedelta(hours=1)),
        OFF,
        asyncio.Event(),
    )
    yield await server.start()
    await server.stop(timedelta(0))


async def ask(address: str, method: str = f"/{ECHO}/Who", **metadata: str) -> str:
    """What the server answers, or the reason why it does not."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(method, StringValue.SerializeToString, StringValue.FromString)
        sent = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        try:
            answer = await call(StringValue(), metadata=sent, timeout=5)
        except grpc.aio.AioRpcError as error:
            return str(dict(error.trailing_metadata())["pandawn-reason"])
    return answer.value


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name, as the paths of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="pandawn-") as name:
        yield Path(name)


async def test_each_address_has_its_own_gate(directory: Path) -> None:
    register = f"/{REGISTER}/RegisterPilot"
    async with serving(
        Door(parse_listener("127.0.0.1:0"), LOCAL),
        Door(parse_listener("127.0.0.1:0?auth=host"), Gate([HostAuthenticator()])),
        Door(parse_listener(f"unix:{directory}/s"), LOCAL),
    ) as (local, hosts, unix):
        for address in (local, unix):
            assert await ask(address) == LOCAL_OPERATOR.rule
        assert await ask(hosts) == "SESSION_REQUIRED"
        assert (
            await ask(hosts, register) == "a worker node may register pilots of queues that list it"
        )


async def test_who_is_behind_a_proxy_counts_only_where_that_was_said() -> None:
    register = f"/{REGISTER}/RegisterPilot"
    header = "x-forwarded-for"
    trusting = Gate(
        [HostAuthenticator()],
        peer_of=forwarded_peer(
            # This machine is the proxy.
            [ip_network("127.0.0.0/8")],
            header,
            trust_socket=False,
        ),
    )
    async with serving(
        Door(parse_listener("127.0.0.1:0?auth=host&forwarded=on"), trusting),
        Door(parse_listener("127.0.0.1:0?auth=host"), Gate([HostAuthenticator()])),
    ) as (behind, direct):
        assert await ask(behind, register) == "ADDRESS_UNKNOWN"
        assert await ask(behind, register, x_forwarded_for="nonsense") == "ADDRESS_UNKNOWN"
        good = await ask(behind, register, x_forwarded_for="10.0.0.5")
        assert good.startswith("a worker node")
        # Elsewhere the header is not looked at, good or bad.
        assert (await ask(direct, register, x_forwarded_for="nonsense")).startswith("a worker")


@pytest.mark.parametrize("mode", [0o600, 0o660])
async def test_a_socket_file_has_its_mode_from_the_beginning(directory: Path, mode: int) -> None:
    path = directory / "s"
    async with serving(Door(parse_listener(f"unix:{path}?mode={mode:o}"), LOCAL)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


async def test_the_file_of_a_server_that_has_gone_is_no_hindrance(directory: Path) -> None:
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert path.exists()
    async with serving(Door(parse_listener(f"unix:{path}"), LOCAL)) as (address,):
        assert await ask(address) == LOCAL_OPERATOR.rule


async def test_the_socket_of_a_living_server_is_not_taken(directory: Path) -> None:
    door = Door(parse_listener(f"unix:{directory}/s"), LOCAL)
    async with serving(door) as (address,):
        with pytest.raises(StartError, match="another server listens there"):
            async with serving(door):
                pass
        assert await ask(address) == LOCAL_OPERATOR.rule


async def test_a_file_that_is_no_socket_is_left_alone(directory: Path) -> None:
    path = directory / "notes"
    path.write_text("mine")
    with pytest.raises(StartError, match="the file exists and is not a socket"):
        async with serving(Door(parse_listener(f"unix:{path}"), LOCAL)):
            pass
    assert path.read_text() == "mine"


async def test_a_directory_that_is_not_there_is_named(directory: Path) -> None:
    with pytest.raises(StartError, match=f"cannot listen on unix:{directory}/no/s"):
        async with serving(Door(parse_listener(f"unix:{directory}/no/s"), LOCAL)):
            pass
