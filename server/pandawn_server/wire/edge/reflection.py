"""Reflection: gives the contracts to clients such as grpcurl, in both versions of gRPC's protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

# Both versions have the same messages on the wire; new clients try v1 first.
_VERSIONS = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")

REFLECTION_METHODS = frozenset(f"/{name}/ServerReflectionInfo" for name in _VERSIONS)
"""Allowed to operators only, unless the settings open it to everybody."""


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Adds reflection for the named services."""
    servicer = reflection.aio.ReflectionServicer(
        (*services, reflection.SERVICE_NAME),
        pool=cast("descriptor_pool.DescriptorPool", _Contracts()),
    )
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": method}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, handlers) for name in _VERSIONS]
    )


class _Contracts:
    """The descriptors of this process. Also finds methods by name, which protobuf's own pool does not."""

    def __getattr__(self, name: str) -> object:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The file that defines a symbol; raises KeyError."""
        pool = descriptor_pool.Default()
        try:
            return pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return pool.FindMethodByName(symbol).containing_service.file
