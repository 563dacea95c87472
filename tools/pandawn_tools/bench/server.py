"""The unchanged `pandawn-server` with one more service: a handler that does nothing, which gives the limit.

Runs only inside a benchmark: `python -m pandawn_tools.bench.server`, with the options of `serve`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import grpc
import typer

from pandawn.dispatcher.v1 import dispatcher_pb2
from pandawn_server.config import Loaded
from pandawn_server.flags import with_settings
from pandawn_server.main import serve
from pandawn_server.wire.edge.handlers import Handler, ServicerContext
from pandawn_server.wire.edge.policies import POLICIES, Policy
from pandawn_server.wire.edge.server import Service
from pandawn_tools.bench.messages import ACQUIRE, EMPTY

if TYPE_CHECKING:
    import grpc.aio

LIMIT = "pandawn.bench.v1.Limit"
"""Name of the service."""

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


class LimitServicer:
    """Accepts AcquireJobs requests and answers all with the same response."""

    def __init__(self) -> None:
        self._response = dispatcher_pb2.AcquireJobsResponse()

    async def Empty(  # noqa: N802 (gRPC's name)
        self, request: dispatcher_pb2.AcquireJobsRequest, context: ServicerContext
    ) -> dispatcher_pb2.AcquireJobsResponse:
        """Returns the response."""
        del request, context
        return self._response

    async def SetResponse(  # noqa: N802 (gRPC's name)
        self, request: dispatcher_pb2.AcquireJobsResponse, context: ServicerContext
    ) -> dispatcher_pb2.AcquireJobsResponse:
        """Sets the response to a real one."""
        del context
        self._response = request
        return request


def _add(server: grpc.aio.Server) -> None:
    servicer = LimitServicer()
    response = dispatcher_pb2.AcquireJobsResponse
    methods: dict[str, Handler] = {
        "Empty": grpc.unary_unary_rpc_method_handler(
            servicer.Empty,
            request_deserializer=dispatcher_pb2.AcquireJobsRequest.FromString,
            response_serializer=response.SerializeToString,
        ),
        "SetResponse": grpc.unary_unary_rpc_method_handler(
            servicer.SetResponse,
            request_deserializer=response.FromString,
            response_serializer=response.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(LIMIT, methods)])


@app.command()
@with_settings
def _serve(loaded: Loaded) -> None:
    """Serve until SIGTERM."""
    # The handler that does nothing requires the same rights of its callers as AcquireJobs.
    policies = cast("dict[str, Policy]", POLICIES)
    policies[EMPTY] = policies[ACQUIRE]
    serve(loaded.settings, [Service(LIMIT, _add)])


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app()
