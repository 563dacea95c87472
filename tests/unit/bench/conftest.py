"""A small gRPC server for the load generator: it echoes, answers briefly, or refuses."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

SERVICE = "test.Echo"


def _echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    del context
    return request


def _refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    del request
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Port of a server with the methods Echo and Refuse."""
    server = grpc.server(ThreadPoolExecutor(4))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Refuse": grpc.unary_unary_rpc_method_handler(_refuse),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(grace=None)
