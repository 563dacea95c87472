"""Reads a failed call: its status, and the details that the server adds.

The server sends them twice: in plain trailers (`pandawn-reason`, `pandawn-retry-after-ms`), and in
`grpc-status-details-bin`, a google.rpc.Status, which also lists the wrong fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import grpc

from pandawn_client.errors import Violation
from pandawn_client.policy import passes
from pandawn_client.rich_status import read_details

_REASON = "pandawn-reason"
_RETRY = "pandawn-retry-after-ms"
_DETAILS = "grpc-status-details-bin"

# Longest wait that a server can ask for. Ours ask for seconds; a broken one, or a proxy, may send any number.
LONGEST_RETRY_AFTER_SECONDS = 3600.0

# gRPC's error for a web server or a proxy.
_NOT_GRPC = "http2 header with status"
# gRPC's errors that a retry does not fix: permissions of the socket file, an unknown host, another protocol
# at the port, a certificate. A temporary failure of DNS contains "Timeout" or "refused".
_LASTING = re.compile(
    r"Permission denied|Domain name not found|Expected SETTINGS frame as the first|Not a directory"
    r"|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|certificate verify failed"
)
# A server that stops may return CANCELLED: calls that we wait for are never cancelled here.
_OUT_OF_REACH = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


class CallError(Exception):
    """A call that the server refused, or that did not reach it.

    `reason` is UPPER_SNAKE as in the contract, or the name of the gRPC status if there is none; `transient`
    says whether a retry may succeed (see `policy`); `retry_after` is the pause in seconds that the server
    requests; `violations` are the wrong fields.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        transient: bool,
        retry_after: float | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.transient = transient
        self.retry_after = retry_after
        self.violations = tuple(violations)

    def add(self, more: str) -> None:
        """Appends to the message."""
        self.message += more
        self.args = (f"{self.reason}: {self.message}",)

    @property
    def is_from_server(self) -> bool:
        """Whether the error is from the server itself, not from the connection."""
        return self.reason != self.code.name

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the call did not reach a Pandawn server."""
        return not self.is_from_server and (self.code in _OUT_OF_REACH or _NOT_GRPC in self.message)

    @property
    def is_lasting(self) -> bool:
        """Whether the server is unreachable for a reason that a retry does not fix."""
        return self.is_out_of_reach and _LASTING.search(self.message) is not None


def failure_of(error: grpc.RpcError) -> CallError:
    """Converts an error of gRPC, with the details that the server adds."""
    # Errors of stubs are also grpc.Calls, which grpcio's types do not express.
    ended: object = error
    if not isinstance(ended, grpc.Call):
        return CallError(grpc.StatusCode.UNKNOWN, "UNKNOWN", str(error), transient=False)
    trailers = {str(key): value for key, value in ended.trailing_metadata() or ()}
    code = ended.code()
    retry_after_ms = _text(trailers.get(_RETRY))
    retry_after = None
    if retry_after_ms.isdecimal():
        # By `float`, which takes any number of digits.
        retry_after = min(float(retry_after_ms) / 1000, LONGEST_RETRY_AFTER_SECONDS)
    details = trailers.get(_DETAILS)
    reason, violations = read_details(details if isinstance(details, bytes) else b"")
    return CallError(
        code,
        _text(trailers.get(_REASON)) or reason or code.name,
        ended.details() or "",
        transient=passes(code, retry_after),
        retry_after=retry_after,
        violations=[Violation(field, description) for field, description in violations],
    )


def _text(value: str | bytes | None) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
