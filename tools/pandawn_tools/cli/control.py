"""`pandawn kill` and `pandawn retry`: change the fate of jobs and tasks."""

from collections.abc import Callable, Iterable
from typing import Annotated

import typer
from google.protobuf.message import Message

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.type.v1 import type_pb2 as types
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client, new_request_id
from pandawn_tools.cli.errors import CliError, ExitStatus, report, usage_error
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.render import print_lines
from pandawn_tools.cli.units import format_count

JobIds = Annotated[
    list[int] | None,
    typer.Argument(metavar="JOB", callback=options.positive_int64, help="Numbers of jobs."),
]
TaskOption = Annotated[
    list[int] | None,
    typer.Option(
        "--task",
        "-t",
        callback=options.positive_int64,
        metavar="TASK",
        help="A whole task. May be repeated.",
    ),
]

# One call: does it, and returns the reply and what to say about it.
_Act = Callable[[], tuple[Message, str]]


def kill(
    ctx: typer.Context,
    job_ids: JobIds = None,
    task: TaskOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Cancel jobs, or whole tasks: pandawn kill 12 13; pandawn kill --task 3.

    A running job ends when its pilot is next in contact. Jobs that have ended stay as they are.
    """
    _check_some(job_ids, task, "kill")
    with options.connect(ctx, server) as client:
        acts = [_cancel_task(client, number) for number in task or ()]
        acts += [_cancel_job(client, number) for number in job_ids or ()]
        _perform(acts, json_output=json_output)


def retry(
    ctx: typer.Context,
    job_ids: JobIds = None,
    task: TaskOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Submit failed or cancelled jobs again: pandawn retry 12; pandawn retry --task 3."""
    _check_some(job_ids, task, "retry")
    with options.connect(ctx, server) as client:
        acts = [_retry_task(client, number) for number in task or ()]
        acts += [_retry_job(client, number) for number in job_ids or ()]
        _perform(acts, json_output=json_output)


def _check_some(job_ids: list[int] | None, tasks: list[int] | None, verb: str) -> None:
    if not job_ids and not tasks:
        raise usage_error(
            "INVALID_OPTION",
            f"there is nothing to {verb}",
            remedies=[
                f"name jobs: pandawn {verb} JOB...",
                f"or a task: pandawn {verb} --task TASK",
            ],
        )


def _perform(acts: Iterable[_Act], *, json_output: bool) -> None:
    """Does them all; one that is refused does not keep the others from being done."""
    replies: list[Message] = []
    worst = ExitStatus.DONE
    for act in acts:
        try:
            reply, said = act()
        except CliError as error:
            if error.status is not ExitStatus.REFUSED:
                raise
            report(error)
            worst = ExitStatus.REFUSED
            continue
        replies.append(reply)
        if not json_output:
            print_lines([said])
    if json_output:
        print_messages(replies)
    if worst:
        raise typer.Exit(worst)


def _cancel_task(client: Client, task_id: int) -> _Act:
    def act() -> tuple[Message, str]:
        reply = client.call(client.broker.CancelTask, broker.CancelTaskRequest(task_id=task_id))
        at_once, later = reply.cancelled_count, reply.pending_count
        said = []
        if at_once:
            said.append(f"{format_count(at_once, 'job')} cancelled")
        if later:
            said.append(f"{format_count(later, 'job')} to be ended at the pilot's next contact")
        ended = f"it had ended already ({words.task_state(reply.task.state)})"
        return reply, f"task {task_id}: {', '.join(said) or ended}"

    return act


def _cancel_job(client: Client, job_id: int) -> _Act:
    def act() -> tuple[Message, str]:
        reply = client.call(client.broker.CancelJob, broker.CancelJobRequest(job_id=job_id))
        if reply.job.cancel_requested:
            return reply, f"job {job_id} ends at its pilot's next contact"
        if reply.job.state == types.JOB_STATE_CANCELLED:
            return reply, f"job {job_id} is cancelled"
        state = words.job_state(reply.job.state)
        return reply, f"job {job_id}: it had ended already ({state})"

    return act


def _retry_task(client: Client, task_id: int) -> _Act:
    request = broker.RetryTaskRequest(request_id=new_request_id(), task_id=task_id)

    def act() -> tuple[Message, str]:
        reply = client.call(client.broker.RetryTask, request)
        numbers = ", ".join(str(number) for number in reply.job_ids)
        return (
            reply,
            f"task {task_id}: {format_count(len(reply.job_ids), 'job')} submitted again: {numbers}",
        )

    return act


def _retry_job(client: Client, job_id: int) -> _Act:
    request = broker.RetryJobRequest(request_id=new_request_id(), job_id=job_id)

    def act() -> tuple[Message, str]:
        reply = client.call(client.broker.RetryJob, request)
        return reply, f"job {job_id} is submitted again as job {reply.job.job_id}"

    return act
