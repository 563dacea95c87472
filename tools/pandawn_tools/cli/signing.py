"""Puts the user's token on each call."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc


class _Details(NamedTuple):
    """A call's details; gRPC reads these names."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


# grpc's interceptors are untyped in what they pass on. Its own call credentials would do the same, but
# on TLS only, and servers on this machine are spoken to without.
class Signer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Puts `authorization: Bearer` on calls; the token is asked for at each, since it may be renewed."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:  # noqa: ANN401
        """See grpc."""
        return continuation(self._signed(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:  # noqa: ANN401
        """See grpc."""
        return continuation(self._signed(details), request)

    def intercept_stream_unary(
        self,
        continuation: Any,  # noqa: ANN401
        details: Any,  # noqa: ANN401
        request_iterator: Iterator[Any],
    ) -> Any:  # noqa: ANN401
        """See grpc."""
        return continuation(self._signed(details), request_iterator)

    def _signed(self, details: Any) -> _Details:  # noqa: ANN401
        return _Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), ("authorization", f"Bearer {self._token()}")),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
