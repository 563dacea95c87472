"""Maps errors of the domain to gRPC statuses, in one table, and encodes their details.

A refusal has three forms: the status code with a sentence; `grpc-status-details-bin`, a `google.rpc.Status` for
clients with a rich error library; and plain trailers for a bare pilot without such a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from pandawn.common.v1 import common_pb2
from pandawn_server.domain.errors import Code, PandawnError, Violation

ERROR_DOMAIN = "pandawn"
"""`ErrorInfo.domain` of every error of this system."""

REASON_TRAILER = "pandawn-reason"
"""Trailer with the UPPER_SNAKE reason."""

RETRY_AFTER_TRAILER = "pandawn-retry-after-ms"
"""Trailer with the milliseconds to wait before a retry; absent if a retry does not help."""

PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
"""The same for the retries that gRPC libraries make, if a client has enabled them."""

DETAILS_TRAILER = "grpc-status-details-bin"
"""Trailer with a serialised `google.rpc.Status`; gRPC's own convention."""

MAX_VIOLATIONS = 50
"""Maximum violations listed in a reply; more do not help anybody to fix the request."""

DEFAULT_RETRY_AFTER = timedelta(seconds=1)
"""Wait before a retry of an UNAVAILABLE call whose error names no time."""

# Clients reject headers and trailers above 8 KiB together (the default of most gRPC libraries) and then lose the
# whole status. The rest up to 8 KiB is for the names and gRPC's own trailers.
_TRAILERS_BYTES = 7 * 1024
_MESSAGE_BYTES = 1024
_METADATA_VALUE_BYTES = 256

_STATUS_CODES: Mapping[Code, grpc.StatusCode] = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Code.ABORTED: grpc.StatusCode.ABORTED,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
}

Trailers = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a failed call ends: ready for `ServicerContext.abort`."""

    code: grpc.StatusCode
    message: str
    trailers: Trailers


def status_code(code: Code) -> grpc.StatusCode:
    """The gRPC status code of a domain code."""
    return _STATUS_CODES[code]


def refusal_of(error: PandawnError) -> Refusal:
    """Encodes an error for the client, cut to what trailers may hold."""
    retry_after = error.retry_after
    if retry_after is None and error.code is Code.UNAVAILABLE:
        retry_after = DEFAULT_RETRY_AFTER
    return _refusal(
        status_code(error.code),
        error.reason,
        error.message,
        metadata=error.metadata,
        violations=error.violations,
        retry_after=retry_after,
    )


def incident_refusal(incident: str) -> Refusal:
    """The answer to an unexpected error: it names the log entry and nothing of its content."""
    return _refusal(
        grpc.StatusCode.INTERNAL,
        "INTERNAL_ERROR",
        f"internal error; the server's log has it as incident {incident}",
        metadata={"incident": incident},
    )


def item_status(error: PandawnError | None) -> common_pb2.ItemStatus:
    """The answer for one item of a batch call; None is success."""
    if error is None:
        return common_pb2.ItemStatus()
    number: int = status_code(error.code).value[0]
    return common_pb2.ItemStatus(
        code=number, reason=error.reason, message=_cut(error.message, _MESSAGE_BYTES)
    )


def _refusal(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *,
    metadata: Mapping[str, str],
    violations: tuple[Violation, ...] = (),
    retry_after: timedelta | None = None,
) -> Refusal:
    message = _cut(message, _MESSAGE_BYTES)
    status = status_pb2.Status(code=code.value[0], message=message)
    _pack(
        status,
        error_details_pb2.ErrorInfo(
            reason=reason,
            domain=ERROR_DOMAIN,
            metadata={
                key: _cut(value, _METADATA_VALUE_BYTES) for key, value in sorted(metadata.items())
            },
        ),
    )
    trailers: list[tuple[str, str | bytes]] = [(REASON_TRAILER, reason)]
    if retry_after is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromTimedelta(retry_after)
        _pack(status, retry_info)
        wait = str(retry_after // timedelta(milliseconds=1))
        trailers += [(RETRY_AFTER_TRAILER, wait), (PUSHBACK_TRAILER, wait)]
    if violations:
        # On the wire binary trailers may be base64, four bytes for three.
        room = (_TRAILERS_BYTES - _percent_encoded_size(message)) * 3 // 4 - status.ByteSize()
        _pack(status, _bad_request(violations, room))
    trailers.append((DETAILS_TRAILER, status.SerializeToString()))
    return Refusal(code, message, tuple(trailers))


def _bad_request(violations: tuple[Violation, ...], room: int) -> error_details_pb2.BadRequest:
    """As many violations as fit in `room` bytes; the last line counts the others."""
    request = error_details_pb2.BadRequest()
    # Space for the line about the others, and for the `Any` around it all.
    room -= 200
    for shown, violation in enumerate(violations):
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=violation.field, description=_cut(violation.description, _METADATA_VALUE_BYTES)
        )
        # The entry's tag and length take up to 4 bytes.
        room -= entry.ByteSize() + 4
        if shown == MAX_VIOLATIONS or room < 0:
            request.field_violations.add(
                description=f"and {len(violations) - shown} more violations"
            )
            break
        request.field_violations.append(entry)
    return request


def _pack(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _cut(text: str, limit: int) -> str:
    """The text, cut if necessary so that it fits in `limit` bytes of UTF-8, with an ellipsis."""
    utf8 = text.encode(errors="replace")
    if len(utf8) <= limit:
        return utf8.decode()
    return utf8[: limit - 3].decode(errors="ignore") + "…"


def _percent_encoded_size(text: str) -> int:
    """Size of a status message in gRPC's encoding: a byte that is not printable ASCII takes three."""
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in text.encode())
