"""Signs a connection's calls: with the credential where a session begins, with the session elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from pandawn_client.tokens import Token

# Calls that begin a session. Only they carry the credential itself.
_BEGINNINGS = frozenset(
    {
        "/pandawn.dispatcher.v1.Dispatcher/RegisterPilot",
        "/pandawn.filecatalog.v1.FileCatalog/OpenSession",
    }
)
_SESSION_KEY = "pandawn-session"


class Identity:
    """What a connection's calls show; used by all threads. `token` is the credential, or empty."""

    def __init__(self, token: str = "", *, always: bool = False) -> None:
        """With `always` calls carry the credential whenever there is no session."""
        self.token = token
        self._always = always
        self._session = ""
        # Told when the server does not take a session (any more); from threads of gRPC.
        self.on_refused: Callable[[], None] = lambda: None

    @property
    def session(self) -> str:
        """The session token; empty before it begins, and with servers that give none."""
        return self._session

    def begin(self, session: str) -> None:
        """Takes the token of a session that began; empty: the server gives none."""
        self._session = session

    def renew(self, session: str) -> None:
        """Takes a token that a reply brought along; empty: the one at hand stays good."""
        if session:
            self._session = session

    @staticmethod
    def is_beginning(method: str) -> bool:
        """Whether a method begins a session."""
        return method in _BEGINNINGS

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        """What goes with a call of this method."""
        if method not in _BEGINNINGS and self._session:
            return ((_SESSION_KEY, self._session),)
        if self.token and (self._always or method in _BEGINNINGS):
            return (("authorization", f"Bearer {self.token}"),)
        return ()

    def note_end(self, method: str, code: grpc.StatusCode | None) -> None:
        """Looks at how a call ended."""
        if code is grpc.StatusCode.UNAUTHENTICATED and method not in _BEGINNINGS:
            self.on_refused()


class Bearer(Identity):
    """Shows a token on each call, read again from its file each time, so that a renewed one is used."""

    def __init__(self, token: Token | None) -> None:
        super().__init__()
        self._renewed = token

    def metadata(self, method: str) -> tuple[tuple[str, str], ...]:
        """See Identity."""
        del method
        if self._renewed is None:
            return ()
        return (("authorization", f"Bearer {self._renewed.fresh()}"),)


class _Details(NamedTuple):
    """A call's details; gRPC reads these names."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


# grpc's interceptors are untyped in what they pass on.
class Signer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Puts the metadata of an identity on each call, and tells `on_end` how it ended."""

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
        call.add_done_callback(lambda ended: self._note_end(method, ended.code()))
        return call

    def _note_end(self, method: str, code: grpc.StatusCode | None) -> None:
        self._identity.note_end(method, code)
        self._on_end(code)
