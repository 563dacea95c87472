"""Who the server takes a caller for."""

from __future__ import annotations

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, caller_pb2
from tests.fixtures.server import PandawnServer


def test_a_caller_on_the_machine_of_the_server_is_its_operator(
    embedded_server: PandawnServer,
) -> None:
    with embedded_server.channel() as channel:
        broker = broker_pb2_grpc.BrokerStub(channel)
        caller = broker.WhoAmI(broker_pb2.WhoAmIRequest(), timeout=10).caller
    assert caller.method == caller_pb2.CALLER_METHOD_LOCAL
    assert list(caller.roles) == [caller_pb2.CALLER_ROLE_OPERATOR]
    assert caller.rule
    assert not caller.user
    assert not caller.HasField("expire_time")
