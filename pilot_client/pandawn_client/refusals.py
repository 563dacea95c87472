"""What a failed call tells: its status, and what the server says beside it.

The server says it twice: in plain trailers (`pandawn-reason`, `pandawn-retry-after-ms`), and in
`grpc-status-details-bin`, a google.rpc.Status, which alone lists the fields that are wrong.
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

# What gRPC says of a web server, or of a proxy on the way.
_NOT_GRPC = "http2 header with status"
# What gRPC says where waiting mends nothing: rights of the socket file, a name that nobody has, another
# protocol at the port, a certificate. A name service that fails for now says "Timeout" or "refused".
_LASTING = re.compile(
    r"Permission denied|Domain name not found|Expected SETTINGS frame as the first|Not a directory"
    r"|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|certificate verify failed"
)
# CANCELLED is what a server that stops may answer: nobody here cancels calls that are waited for.
_OUT_OF_REACH = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


class CallError(Exception):
    """A call that the server refused or that did not reach it.

    `reason` is UPPER_SNAKE as in the contract, or the name of the gRPC status when there is none;
    `transient` says whether the same call may succeed later (see `policy`); `retry_after` is the server's
    wish in seconds; `violations` are the fields that are wrong.
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
        """Lets the message say more."""
        self.message += more
        self.args = (f"{self.reason}: {self.message}",)

    @property
    def is_from_server(self) -> bool:
        """Whether the error comes from the server itself, and not from the connection."""
        return self.reason != self.code.name

    @property
    def is_out_of_reach(self) -> bool:
        """Whether nobody was reached who knows the call."""
        return not self.is_from_server and (self.code in _OUT_OF_REACH or _NOT_GRPC in self.message)

    @property
    def is_lasting(self) -> bool:
        """Whether nobody was reached, for a reason that time alone does not mend."""
        return self.is_out_of_reach and _LASTING.search(self.message) is not None


def failure_of(error: grpc.RpcError) -> CallError:
    """Reads an error of gRPC: status, and what the server adds."""
    # What a stub raises is a grpc.Call as well; the types of grpcio cannot say it.
    ended: object = error
    if not isinstance(ended, grpc.Call):
        return CallError(grpc.StatusCode.UNKNOWN, "UNKNOWN", str(error), transient=False)
    trailers = {str(key): value for key, value in ended.trailing_metadata() or ()}
    code = ended.code()
    retry_after_ms = _text(trailers.get(_RETRY))
    retry_after = int(retry_after_ms) / 1000 if retry_after_ms.isdecimal() else None
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
