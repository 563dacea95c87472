"""`pandawn events`: shows events, and follows them."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.monitor.v1 import monitor_pb2 as monitor
from pandawn_tools.cli import options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.jsonout import message_json, print_json_line, print_messages
from pandawn_tools.cli.render import clean, note, stdout_console
from pandawn_tools.cli.units import format_time

_DEFAULT_TAIL = 50
_STYLES = {"FINISHED": "green", "FAILED": "bold red", "LOST": "bold red", "SUSPENDED": "bold red"}


def events(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep running, and show events as they happen.")
    ] = False,
    task: options.TaskFilter = None,
    job: Annotated[
        int | None,
        typer.Option(
            "--job",
            "-j",
            callback=options.positive_int64,
            metavar="JOB",
            help="Only of this job, by number.",
        ),
    ] = None,
    tail: Annotated[
        int,
        typer.Option(
            "--tail",
            "-n",
            callback=options.within(0, 1_000_000),
            metavar="N",
            help="Begin with the last N events; 0: with the first one stored.",
        ),
    ] = _DEFAULT_TAIL,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show what happened to jobs, pilots and nodes.

    --json prints a list; --json --follow prints one object per line.
    """
    request = monitor.StreamEventsRequest(
        follow=follow, task_id=task or 0, job_id=job or 0, tail=tail
    )
    with options.connect(ctx, server, patient=follow) as client:
        stream = _events(client, request)
        if json_output and not follow:
            found = list(stream)
            if not found:
                _check_filters(client, request)
            print_messages(found)
            return
        shown = 0
        for event in stream:
            shown += 1
            if json_output:
                print_json_line(message_json(event))
            else:
                stdout_console().print(_line(event), soft_wrap=True)
        if not shown:
            _check_filters(client, request)
        if not shown and not json_output:
            note("There are no such events.")


def _check_filters(client: Client, request: monitor.StreamEventsRequest) -> None:
    """Checks whether what the filters name exists, when there was no event.

    Raises:
        CliError: There is no such task or job.
    """
    if request.task_id:
        client.call(client.broker.GetTask, broker.GetTaskRequest(task_id=request.task_id))
    if request.job_id:
        client.call(client.broker.GetJob, broker.GetJobRequest(job_id=request.job_id))


def _events(client: Client, request: monitor.StreamEventsRequest) -> Iterator[monitor.Event]:
    """Yields each event once, also if the server restarts meanwhile."""
    for reply in client.follow(client.monitor.StreamEvents, lambda: request):
        for event in reply.events:
            yield event
            request.after_event_id = event.event_id
            request.tail = 0


def _line(event: monitor.Event) -> Text:
    text = Text()
    text.append(f"{format_time(event.event_time)}  ", style="dim")
    text.append(f"{event.kind:<16} ", style=_STYLES.get(event.kind.rpartition("_")[2], "cyan"))
    about = []
    if event.job_id:
        about.append(f"job {event.job_id}" + (f" try {event.attempt}" if event.attempt else ""))
    elif event.task_id:
        about.append(f"task {event.task_id}")
    if event.node:
        about.append(event.node)
    text.append(clean("  ".join([*about, event.text])))
    return text
