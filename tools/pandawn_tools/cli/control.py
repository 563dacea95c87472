"""`pandawn kill` and `pandawn retry`."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import typer
from google.protobuf.message import Message

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client, new_request_id
from pandawn_tools.cli.errors import CliError, ExitStatus, report, usage_error
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.progress import count
from pandawn_tools.cli.render import print_lines
from pandawn_tools.cli.units import format_count

JobIds = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="JOB",
        callback=options.positive_int64,
        help="Numbers of jobs. If a task has the same number, use --job or --task.",
    ),
]
JobOption = Annotated[
    list[int] | None,
    typer.Option(
        "--job",
        "-j",
        callback=options.positive_int64,
        metavar="JOB",
        help="A job, by number. May be repeated.",
    ),
]
YesOption = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Do not ask before many jobs, or cancelled jobs, are submitted again."
    ),
]
TaskOption = Annotated[
    list[int] | None,
    typer.Option(
        "--task",
        "-t",
        callback=options.positive_int64,
        metavar="TASK",
        help="A whole task, by number. May be repeated.",
    ),
]

# A retry of more jobs than this asks first.
_MANY_JOBS = 1000

# Makes one call, and returns the reply and a sentence about it.
_Act = Callable[[], tuple[Message, str]]


def kill(
    ctx: typer.Context,
    numbers: JobIds = None,
    job: JobOption = None,
    task: TaskOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Cancel jobs or whole tasks.

        pandawn kill 12 13
        pandawn kill --task 3

    A running job stops when its pilot next contacts the server. Jobs that have ended do not change.
    """
    _check_some([*(numbers or ()), *(job or ())], task, "kill")
    with options.connect(ctx, server) as client:
        _check_meant(client, numbers or (), "kill")
        acts = [_cancel_task(client, number) for number in task or ()]
        acts += [_cancel_job(client, number) for number in [*(numbers or ()), *(job or ())]]
        _perform(acts, json_output=json_output)


def retry(
    ctx: typer.Context,
    numbers: JobIds = None,
    job: JobOption = None,
    task: TaskOption = None,
    yes: YesOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Submit failed or cancelled jobs again.

    pandawn retry 12
    pandawn retry --task 3
    """
    _check_some([*(numbers or ()), *(job or ())], task, "retry")
    with options.connect(ctx, server) as client:
        _check_meant(client, numbers or (), "retry")
        if not yes:
            for number in task or ():
                _ask_about(client, number)
        acts = [_retry_task(client, number) for number in task or ()]
        acts += [_retry_job(client, number) for number in [*(numbers or ()), *(job or ())]]
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


def _check_meant(client: Client, numbers: Sequence[int], verb: str) -> None:
    """Raises CliError for a bare number that is also a task's, which is the one that `submit` prints."""
    for number in numbers:
        try:
            client.call(client.broker.GetTask, broker.GetTaskRequest(task_id=number))
        except CliError as error:
            if error.status is not ExitStatus.REFUSED:
                raise
            continue
        try:
            found = client.call(client.broker.GetJob, broker.GetJobRequest(job_id=number))
            of_task = f"a job of task {found.job.task_id}"
        except CliError as error:
            if error.status is not ExitStatus.REFUSED:
                raise
            of_task = "not a job that you can see"
        raise usage_error(
            "AMBIGUOUS_NUMBER",
            f"{number} is a task, and {of_task}; nothing was done",
            remedies=[
                f"the whole task: pandawn {verb} --task {number}",
                f"the job: pandawn {verb} --job {number}",
            ],
        )


def _ask_about(client: Client, task_id: int) -> None:
    """Asks before a retry of cancelled jobs, or of very many jobs.

    Raises:
        CliError: There is no such task, the answer is no, or standard input is not a terminal.
    """
    task = client.call(client.broker.GetTask, broker.GetTaskRequest(task_id=task_id)).task
    cancelled = count(task, types.JOB_STATE_CANCELLED)
    failed = count(task, types.JOB_STATE_FAILED)
    if not cancelled and failed <= _MANY_JOBS:
        return
    what = " and ".join(
        f"{format_count(number, word + ' job')}"
        for number, word in ((failed, "failed"), (cancelled, "cancelled"))
        if number
    )
    if sys.stdin.isatty() and typer.confirm(
        f"Task {task_id} has {what}. Submit them all again?", err=True
    ):
        return
    raise usage_error(
        "NOT_CONFIRMED",
        f"task {task_id} has {what}; nothing was submitted again",
        remedies=[
            f"to retry all of them: pandawn retry --task {task_id} --yes",
            f"or to retry single jobs: pandawn jobs --task {task_id} --state failed; pandawn retry JOB...",
        ],
    )


def _perform(acts: Iterable[_Act], *, json_output: bool) -> None:
    """Makes all calls, also when some are refused; then exits with the status of a refusal."""
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
            said.append(
                f"{format_count(later, 'job')} will stop when the pilot next contacts the server"
            )
        ended = f"it had already ended ({words.task_state(reply.task.state)})"
        return reply, f"task {task_id}: {', '.join(said) or ended}"

    return act


def _cancel_job(client: Client, job_id: int) -> _Act:
    def act() -> tuple[Message, str]:
        reply = client.call(client.broker.CancelJob, broker.CancelJobRequest(job_id=job_id))
        if reply.job.cancel_requested:
            return reply, f"job {job_id} will stop when its pilot next contacts the server"
        if reply.job.state == types.JOB_STATE_CANCELLED:
            return reply, f"job {job_id} is cancelled"
        state = words.job_state(reply.job.state)
        return reply, f"job {job_id}: it had already ended ({state})"

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
