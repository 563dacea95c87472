"""Sends a task with its code: in one message, or, if it has many inputs, in a stream of parts."""

from collections.abc import Iterator
from itertools import islice

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import task_pb2
from pandawn_tools.cli import sandbox, taskspec
from pandawn_tools.cli.client import Client, check_size, new_request_id
from pandawn_tools.cli.errors import CliError, ExitStatus, with_places
from pandawn_tools.cli.render import note, stderr_console

# So many inputs fit into one message, however long their names are. More are sent in parts.
INPUTS_AT_ONCE = 5000
INPUTS_A_PART = 1000
# Time for the stream, and for the server to store it.
_LARGE_TASK_SECONDS = 600.0
_NO_SANDBOX = ""


def send(client: Client, plan: taskspec.Plan, archive: bytes) -> task_pb2.Task:
    """Uploads the code, if there is any, and submits the task.

    Raises:
        CliError: The server refused, with options in place of fields of the request; or it cannot be reached.
    """
    request = broker.SubmitTaskRequest(request_id=new_request_id(), task=plan.message(_NO_SANDBOX))
    in_parts = len(plan.inputs) > INPUTS_AT_ONCE
    if not in_parts:
        request.task.inputs.extend(plan.input_messages())
    # Checked before the upload, which would be in vain.
    check_size(request)
    try:
        if archive:
            request.task.sandbox_id = sandbox.upload(client, archive)
    except KeyboardInterrupt:
        note_nothing_sent()
        raise
    try:
        if in_parts:
            return client.upload(
                client.broker.SubmitLargeTask,
                lambda: _parts(request, plan),
                timeout_seconds=_LARGE_TASK_SECONDS,
            ).task
        return client.call(client.broker.SubmitTask, request).task
    except KeyboardInterrupt:
        stderr_console().print()
        note(
            "Interrupted while the task was sent: the server may have accepted it, and then it runs. "
            f"Look for its dataset {plan.dataset} in: pandawn tasks; to cancel it: pandawn kill --task TASK"
        )
        raise
    except CliError as error:
        if error.status is ExitStatus.UNREACHABLE:
            note(
                "The server may have accepted the task. Check with pandawn tasks when the server "
                "is back."
            )
        raise with_places(error, lambda field: taskspec.place_of(field, plan.inputs)) from error


def _parts(
    header: broker.SubmitTaskRequest, plan: taskspec.Plan
) -> Iterator[broker.SubmitLargeTaskRequest]:
    yield broker.SubmitLargeTaskRequest(header=header)
    inputs = plan.input_messages()
    while part := list(islice(inputs, INPUTS_A_PART)):
        yield broker.SubmitLargeTaskRequest(inputs=part)


def note_nothing_sent() -> None:
    """Says that the interrupt came before anything was sent."""
    stderr_console().print()
    note("Interrupted: nothing was submitted.")
