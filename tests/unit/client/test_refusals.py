"""What a failed call tells, whatever a server or a proxy writes into the trailers."""

from __future__ import annotations

from concurrent import futures

import grpc
import pytest

from pandawn.broker.v1 import broker_pb2
from pandawn_client.client import Client
from pandawn_client.credentials import NOTHING
from pandawn_client.policy import Patience
from pandawn_client.refusals import LONGEST_RETRY_AFTER_SECONDS, CallError


def refusal(retry_after: str) -> CallError:
    """How a client takes a refusal with that time to wait."""

    def refuse(request: object, context: grpc.ServicerContext) -> object:
        del request
        context.set_trailing_metadata((("pandawn-retry-after-ms", retry_after),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError("abort raises")

    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        refuse,
        broker_pb2.WhoAmIRequest.FromString,
        broker_pb2.WhoAmIResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("pandawn.broker.v1.Broker", {"WhoAmI": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(
            f"127.0.0.1:{port}", credentials=NOTHING, patience=Patience(0.0, 0.1)
        ) as client:
            with pytest.raises(CallError) as refused:
                client.call(client.broker.WhoAmI, broker_pb2.WhoAmIRequest())
            return refused.value
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("1500", 1.5),
        ("0", 0.0),
        ("-1", None),
        ("soon", None),
        ("86400000", LONGEST_RETRY_AFTER_SECONDS),
        pytest.param("9" * 400, LONGEST_RETRY_AFTER_SECONDS, id="400 digits"),
        pytest.param("9" * 5000, LONGEST_RETRY_AFTER_SECONDS, id="5000 digits"),
    ],
)
def test_any_time_to_wait_is_understood(told: str, seconds: float | None) -> None:
    failure = refusal(told)
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.retry_after == seconds
