"""Errors of the server, put into words: from `CallError` to `CliError`."""

import os
import re

import grpc

from pandawn_client.channel import proxy_hint
from pandawn_client.refusals import CallError
from pandawn_client.tls_trouble import Trouble
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.identity_words import IDENTITY_REMEDIES
from pandawn_tools.cli.settings import Address

# The part of gRPC's connection errors that names the cause; before it stand addresses again.
_LAST_ERROR = re.compile(r"last error: (?:\w+: )?(?P<cause>.+)")

_NO_RIGHT = "Permission denied"

# What a user can do about a refusal, by its reason. The server's own sentence comes first.
_REMEDIES = {
    "QUEUE_NOT_FOUND": "list the queues: pandawn queues list",
    "SITE_NOT_FOUND": "list the sites: pandawn queues list; pandawn nodes",
    "NODE_NOT_FOUND": "list the nodes: pandawn nodes",
    "TASK_NOT_FOUND": "list the tasks: pandawn tasks",
    "JOB_NOT_FOUND": "list the jobs: pandawn jobs",
    "SANDBOX_NOT_FOUND": "submit again, which uploads the code again",
    "QUEUE_TEST": "choose another queue (pandawn queues list), or submit with --test",
    "QUEUE_OFFLINE": "choose another queue (pandawn queues list), or ask the operator of this one",
    "NO_QUEUE_AVAILABLE": "name a queue with --queue; pandawn queues list shows their status",
    "NO_STORAGE_ROOT": "give the queue a place for outputs: "
    "pandawn queues apply QUEUE --storage-root DIR",
    "DATASET_EXISTS": "choose another --dataset, or leave it out to get a new name",
    "TOO_MANY_JOBS": "split the task, or raise --files-per-job if it has input files",
    "INPUT_TOO_LARGE": "lower --files-per-job, or ask whoever runs the queue for a larger "
    "max_input_bytes (pandawn queues show QUEUE)",
    "EMPTY_FILE_LIST": "give input files, or use --jobs N for jobs without input",
    "STALE_ETAG": "read the queue again (pandawn queues show QUEUE) and use its new etag",
    "STALE_REVISION": "queues were changed meanwhile: see pandawn queues history, and run the command again",
    "TOO_MANY_QUEUES": "if that is meant, repeat with --allow-offline N",
    "QUEUE_IN_USE": "take it offline first (pandawn queues set QUEUE status=offline), and wait",
    "NOTHING_TO_RETRY": "see how its jobs stand: pandawn jobs --task TASK",
    "QUEUE_ACCESS_DENIED": "see which queues there are: pandawn queues list; "
    "and whether one takes you: pandawn access check USER QUEUE",
    "WAITING_LIMIT_REACHED": "list the waiting jobs: pandawn jobs --state waiting --state activated",
    "ACCESS_ENTRY_NOT_FOUND": "list the entries: pandawn access show QUEUE",
    "SANDBOX_TOO_LARGE": "leave data out of the sandbox; code and small files belong there",
    "DATABASE_UNAVAILABLE": "try again later; the log of the server has the cause",
    "CATALOG_UNAVAILABLE": "try again later; meanwhile jobs run without regard to caches",
}
_ANNOTATIONS = {
    grpc.StatusCode.UNIMPLEMENTED: "the server does not know this call: "
    "it is older than this program, or not a Pandawn server",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the server accepted the call and did not answer in time",
}


def to_cli_error(
    failure: CallError, call: str, address: Address, trouble: Trouble | None = None
) -> CliError:
    """Puts a failed call into words: `call` names it, such as `SubmitTask`.

    `trouble` is what was found out about a server that cannot be reached.
    """
    if failure.is_out_of_reach:
        return _out_of_reach(failure, address, trouble)
    details = [f"{v.field}: {v.description}" for v in failure.violations]
    annotation = _ANNOTATIONS.get(failure.code)
    if annotation is not None:
        details.append(annotation)
    details.append(f"{address.target} answered {call} with {failure.code.name}")
    remedy = _REMEDIES.get(failure.reason) or IDENTITY_REMEDIES.get(failure.reason)
    # A list of violations says the same as the message, and better.
    message = failure.message
    if failure.violations:
        message = "the server cannot accept the request as it is"
    return CliError(
        ExitStatus.UNREACHABLE if _cannot_serve_now(failure) else ExitStatus.REFUSED,
        failure.reason,
        message or f"the server refused {call}",
        details=details,
        # The server's own sentence may have said it.
        remedies=[remedy] if remedy and "`pandawn " not in message else [],
        violations=failure.violations,
    )


def _out_of_reach(failure: CallError, address: Address, trouble: Trouble | None) -> CliError:
    match = _LAST_ERROR.search(failure.message)
    cause = match["cause"] if match else failure.message
    late = failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    remedies = [
        "check that the server runs there (pandawn-server serve)",
        "or name another with --server HOST:PORT",
    ]
    if address.is_socket and _NO_RIGHT in failure.message:
        path = address.target.removeprefix("unix:")
        remedies = [
            f"you may not use this socket; who may: ls -ld {path} {os.path.dirname(path)}",  # noqa: PTH120
            "ask the operator to add you to its group, or use the address of the server with a token",
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


def _cannot_serve_now(failure: CallError) -> bool:
    """Whether somebody who comes back later may be served. A fault of the server is one to be told."""
    return failure.transient and failure.code not in {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
