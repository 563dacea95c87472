"""Signs a connection's calls: with the credential to open a session, with the session after that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from pandawn_client.tokens import Token

# Calls that open a session. Only they carry the credential itself.
_BEGINNINGS = frozenset(
    {
        "/pandawn.dispatcher.v1.Dispatcher/RegisterPilot",
        "/pandawn.filecatalog.v1.FileCatalog/OpenSession",
    }
)
_SESSION_KEY = "pandawn-session"


class Identity:
    """Signs the calls of a connection; thread-safe. `token` is the credential, or empty."""

    def __init__(self, token: str = "", *, always: bool = False) -> None:
        """With `always`, calls without a session carry the credential."""
        self.token = token
        self._always = always
        self._session = ""
        # Called when the server refuses the session; in threads of gRPC.
        self.on_refused: Callable[[], None] = lambda: None

    @property
    def session(self) -> str:
        """The session token; empty before a session, and for servers without sessions."""
        return self._session

    def begin(self, session: str) -> None:
        """Stores the token of a new session; empty if the server has none."""
        self._session = session

    def renew(self, session: str) -> None:
        """Stores a renewed token from a response; empty: keeps the current one."""
        if session:
            self._session = session

    @staticmethod
    def is_beginning(method: str) -> bool:
        """Whether a method opens a session."""
        return method in _BEGINNINGS

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        """The metadata for a call of this method."""
        if method not in _BEGINNINGS and self._session:
            return ((_SESSION_KEY, self._session),)
        if self.token and (self._always or method in _BEGINNINGS):
            return (("authorization", f"Bearer {self.token}"),)
        return ()

    def record_end(self, method: str, code: grpc.StatusCode | None) -> None:
        """Handles the status of an ended call."""
        if code is grpc.StatusCode.UNAUTHENTICATED and method not in _BEGINNINGS:
            self.on_refused()


class Bearer(Identity):
    """Adds a token to each call, read from its file each time, so that a renewed one is used."""

    def __init__(self, token: Token | None) -> None:
        super().__init__()
        self._bearer_token = token

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        """See Identity."""
        del method
        if self._bearer_token is None:
            return ()
        return (("authorization", f"Bearer {self._bearer_token.fresh()}"),)


class _Details(NamedTuple):
    """A call's details; gRPC reads these names."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


# grpc's interceptors have no types for their arguments.
class Signer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Adds the metadata of an identity to each call, and passes its status to `on_end`."""

    def __init__(
        self, identity: Identity, on_end: Callable[[grpc.StatusCode | None], None]
    ) -> None:
        self._identity = identity
        self._on_end = on_end

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:  # noqa: ANN401
        """See grpc."""
        return self._signed(continuation, details, request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:  # noqa: ANN401
        """See grpc."""
        return self._signed(continuation, details, request)

    def intercept_stream_unary(
        self,
        continuation: Any,  # noqa: ANN401
        details: Any,  # noqa: ANN401
        request_iterator: Iterator[Any],
    ) -> Any:  # noqa: ANN401
        """See grpc."""
        return self._signed(continuation, details, request_iterator)

    def _signed(self, continuation: Any, details: Any, request: Any) -> Any:  # noqa: ANN401
        method = str(details.method)
        shown = (*(details.metadata or ()), *self._identity.metadata(method))
        signed = _Details(
            method,
            details.timeout,
            shown or None,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        call = continuation(signed, request)
        call.add_done_callback(lambda ended: self._record_end(method, ended.code()))
        return call

    def _record_end(self, method: str, code: grpc.StatusCode | None) -> None:
        self._identity.record_end(method, code)
        self._on_end(code)
