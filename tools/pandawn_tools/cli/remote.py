"""Errors of the server, put into words: from gRPC statuses to `CliError`."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from pandawn_client.channel import proxy_hint
from pandawn_tools.cli.errors import CliError, ExitStatus, Violation
from pandawn_tools.cli.identity_words import IDENTITY_REMEDIES
from pandawn_tools.cli.settings import Address
from pandawn_tools.cli.tls_trouble import Trouble

_DETAILS_KEY = "grpc-status-details-bin"
_REASON_KEY = "pandawn-reason"
_RETRY_KEY = "pandawn-retry-after-ms"

# The part of gRPC's connection errors that names the cause; before it stand addresses again.
_LAST_ERROR = re.compile(r"last error: (?:\w+: )?(?P<cause>.+)")

# What gRPC says of a web server, or of a proxy on the way.
_NOT_GRPC = "http2 header with status"
# What gRPC says where waiting mends nothing: rights of the socket file, a name that nobody has, another
# protocol at the port, a certificate. A name service that fails for now says "Timeout" or "refused".
_LASTING = re.compile(
    r"Permission denied|Domain name not found|Expected SETTINGS frame as the first|Not a directory"
    r"|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|certificate verify failed"
)
_NO_RIGHT = "Permission denied"

# What a user can do about a refusal, by its reason. The server's own sentence comes first.
_REMEDIES = {
    "QUEUE_NOT_FOUND": "see which queues there are: pandawn queues list",
    "SITE_NOT_FOUND": "see which sites there are: pandawn queues list; pandawn nodes",
    "NODE_NOT_FOUND": "see which nodes there are: pandawn nodes",
    "TASK_NOT_FOUND": "see which tasks there are: pandawn tasks",
    "JOB_NOT_FOUND": "see which jobs there are: pandawn jobs",
    "SANDBOX_NOT_FOUND": "submit again, which uploads the code again",
    "QUEUE_TEST": "choose another queue (pandawn queues list), or submit with --test",
    "QUEUE_OFFLINE": "choose another queue (pandawn queues list), or ask whoever runs this one",
    "NO_QUEUE_AVAILABLE": "name a queue with --queue; pandawn queues list shows their status",
    "NO_STORAGE_ROOT": "give the queue a place for outputs: "
    "pandawn queues apply QUEUE --storage-root DIR",
    "DATASET_EXISTS": "choose another --dataset, or leave it out to get a fresh one",
    "TOO_MANY_JOBS": "split the task, or raise --files-per-job if it has input files",
    "INPUT_TOO_LARGE": "lower --files-per-job, or ask whoever runs the queue for a larger "
    "max_input_bytes (pandawn queues show QUEUE)",
    "EMPTY_FILE_LIST": "name input files, or say --jobs N for jobs without input",
    "STALE_ETAG": "read the queue again (pandawn queues show QUEUE) and repeat with its etag",
    "STALE_REVISION": "somebody changed queues meanwhile: see pandawn queues history, and repeat",
    "TOO_MANY_QUEUES": "if that is meant, repeat with --allow-offline N",
    "QUEUE_IN_USE": "take it offline first (pandawn queues set QUEUE status=offline), and wait",
    "NOTHING_TO_RETRY": "see how its jobs stand: pandawn jobs --task TASK",
    "QUEUE_ACCESS_DENIED": "see which queues there are: pandawn queues list; "
    "and whether one takes you: pandawn access check USER QUEUE",
    "WAITING_LIMIT_REACHED": "see what waits: pandawn jobs --state waiting --state activated",
    "ACCESS_ENTRY_NOT_FOUND": "see what there is: pandawn access show QUEUE",
    "SANDBOX_TOO_LARGE": "leave data out of the sandbox; code and small files belong there",
    "DATABASE_UNAVAILABLE": "try again later; whoever runs the server finds the cause in its log",
    "CATALOG_UNAVAILABLE": "try again later; jobs run meanwhile without knowledge of the caches",
}
_ANNOTATIONS = {
    grpc.StatusCode.UNIMPLEMENTED: "the server there does not know this call: "
    "it is older than this program, or no Pandawn server",
    grpc.StatusCode.DEADLINE_EXCEEDED: "it took the call and did not answer in time",
}
# CANCELLED is what a server that stops may answer: nobody here cancels calls that are waited for.
_OUT_OF_REACH = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a failed call tells: status, reason, sentence, and what else the trailers carry."""

    code: grpc.StatusCode
    reason: str
    message: str
    violations: Sequence[Violation]
    retry_after: timedelta | None

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED} or (
            self.code is grpc.StatusCode.RESOURCE_EXHAUSTED and self.retry_after is not None
        )

    @property
    def is_lasting(self) -> bool:
        """Whether nobody was reached, for a reason that time alone does not mend."""
        return self.is_out_of_reach and _LASTING.search(self.message) is not None

    @property
    def is_out_of_reach(self) -> bool:
        """Whether nobody was reached who knows the call."""
        return not self.is_from_server and (self.code in _OUT_OF_REACH or _NOT_GRPC in self.message)

    @property
    def is_from_server(self) -> bool:
        """Whether the server itself said it, and not the transport on the way."""
        return bool(self.reason)


def read_refusal(error: grpc.RpcError) -> Refusal:
    """Returns what a failed call of the synchronous API tells."""
    # What the synchronous API raises is the call itself; the type stubs do not know that.
    call = cast("grpc.Call", error)
    trailers = dict(call.trailing_metadata() or ())
    reason = _text(trailers.get(_REASON_KEY))
    retry_ms = _text(trailers.get(_RETRY_KEY))
    violations: list[Violation] = []
    for detail in _unpack_details(trailers.get(_DETAILS_KEY)):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            reason = reason or detail.reason
        else:
            violations += (Violation(v.field, v.description) for v in detail.field_violations)
    return Refusal(
        code=call.code(),
        reason=reason,
        message=call.details() or "",
        violations=violations,
        retry_after=timedelta(milliseconds=int(retry_ms)) if retry_ms.isdecimal() else None,
    )


def _text(value: str | bytes | None) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value or ""


def _unpack_details(
    packed: str | bytes | None,
) -> list[error_details_pb2.ErrorInfo | error_details_pb2.BadRequest]:
    status = status_pb2.Status()
    try:
        status.ParseFromString(packed if isinstance(packed, bytes) else b"")
    except DecodeError:
        return []  # another server's idea of the key; the plain trailers still speak
    details: list[error_details_pb2.ErrorInfo | error_details_pb2.BadRequest] = []
    for packed_detail in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
            detail = kind()
            if packed_detail.Unpack(detail):
                details.append(detail)
    return details


def to_cli_error(
    refusal: Refusal, call: str, address: Address, trouble: Trouble | None = None
) -> CliError:
    """Puts a failed call into words: `call` names it, such as `SubmitTask`.

    `trouble` is what was found out about a server that cannot be reached.
    """
    if refusal.is_out_of_reach:
        return _out_of_reach(refusal, address, trouble)
    reason = refusal.reason or refusal.code.name
    details = [f"{v.field}: {v.description}" for v in refusal.violations]
    annotation = _ANNOTATIONS.get(refusal.code)
    if annotation is not None:
        details.append(annotation)
    details.append(f"{address.target} answered {call} with {refusal.code.name}")
    remedy = _REMEDIES.get(reason) or IDENTITY_REMEDIES.get(reason)
    # A list of violations says the same as the message, and better.
    message = refusal.message
    if refusal.violations:
        message = "the server cannot accept the request as it is"
    return CliError(
        ExitStatus.UNREACHABLE if refusal.is_transient else ExitStatus.REFUSED,
        reason,
        message or f"the server refused {call}",
        details=details,
        # The server's own sentence may have said it.
        remedies=[remedy] if remedy and "`pandawn " not in message else [],
        violations=refusal.violations,
    )


def _out_of_reach(refusal: Refusal, address: Address, trouble: Trouble | None) -> CliError:
    match = _LAST_ERROR.search(refusal.message)
    cause = match["cause"] if match else refusal.message
    late = refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    remedies = [
        "check that the server runs there (pandawn-server serve)",
        "or name another with --server HOST:PORT",
    ]
    if address.is_socket and _NO_RIGHT in refusal.message:
        path = address.target.removeprefix("unix:")
        remedies = [
            f"you may not use this socket; see who may: ls -ld {path} {os.path.dirname(path)}",  # noqa: PTH120
            "ask whoever runs the server to put you into its group, or use its address with a token",
        ]
    if trouble is not None:
        cause, remedies = trouble.cause, list(trouble.remedies)
    hint = proxy_hint(address.target)
    if hint:
        remedies.append(f"look at the way there{hint}")
    return CliError(
        ExitStatus.UNREACHABLE,
        "DEADLINE_EXCEEDED" if late else "SERVER_UNREACHABLE",
        f"the server at {address.target} "
        + ("did not answer in time" if late else "cannot be reached"),
        details=[cause, f"the address comes from {address.source}"],
        remedies=remedies,
    )
