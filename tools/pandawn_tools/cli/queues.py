"""`pandawn queues`: what PanDA calls schedconfig, seen and changed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pandawn.queueconfig.v1 import queueconfig_pb2 as queueconfig
from pandawn_tools.cli import options, words
from pandawn_tools.cli.errors import CliError, usage_error, with_places
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.render import location, print_lines, state_text
from pandawn_tools.cli.tables import Cell, Column, print_fields, print_table
from pandawn_tools.cli.units import format_age, format_duration, format_limit, format_time

app = typer.Typer(help="See and change queues.", no_args_is_help=True)

_COLUMNS = (
    Column("QUEUE", fold=True),
    Column("SITE", fold=True),
    Column("CLOUD", fold=True, optional=True),
    Column("STATUS"),
    Column("MAX INPUT", "right"),
    Column("LEASE", "right"),
    Column("WAIT", "right"),
    Column("CHANGED", "right"),
    Column("STORAGE", fold=True),
)

# Parameters by the option that sets them, for `--reset`.
_PARAMETERS = {
    "site": "site",
    "cloud": "cloud",
    "status": "status",
    "max-input": "max_input_bytes",
    "max-work-dir": "max_work_dir_bytes",
    "max-wall-time": "max_wall_time",
    "memory": "memory_bytes",
    "cores": "cores",
    "storage-root": "storage_root",
    "lease": "lease_duration",
    "locality-wait": "locality_wait",
    "priority-band": "priority_band",
}

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]


def _parameter_names() -> list[str]:
    return list(_PARAMETERS)


@app.command("list")
def list_queues(
    ctx: typer.Context,
    site: Annotated[
        str | None, typer.Option("--site", metavar="SITE", help="Only of this site.")
    ] = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List queues. WAIT is the longest time that a job is kept for a node that has its files."""
    with options.connect(ctx, server) as client:
        rows, _ = client.pages(
            lambda token, size: client.call(
                client.queues.ListQueues,
                queueconfig.ListQueuesRequest(page_token=token, page_size=size, site=site or ""),
            ),
            lambda page: page.queues,
            limit=None,
        )
    if json_output:
        print_messages(rows)
        return
    now = datetime.now(UTC)
    print_table(
        _COLUMNS,
        (_row(queue, now) for queue in rows),
        empty="There are no queues; make one: pandawn queues apply QUEUE --storage-root DIR",
    )


@app.command("show")
def show(
    ctx: typer.Context,
    name: Name,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show all parameters of a queue, and the etag that `apply --etag` takes."""
    with options.connect(ctx, server) as client:
        queue = client.call(client.queues.GetQueue, queueconfig.GetQueueRequest(name=name)).queue
    if json_output:
        print_json(message_json(queue))
    else:
        print_fields(_facts(queue))


@app.command("apply")
def apply(
    ctx: typer.Context,
    name: Name,
    site: Annotated[
        str | None,
        typer.Option(metavar="SITE", help="Site it belongs to. A new queue: its own name."),
    ] = None,
    cloud: Annotated[str | None, typer.Option(metavar="CLOUD", help="Region of the site.")] = None,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            help="online, offline, test or brokeroff.",
            autocompletion=words.queue_status_words,
        ),
    ] = None,
    max_input: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Largest input of one job; 0: no limit."),
    ] = None,
    max_work_dir: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Largest work directory of a job; 0: no limit."),
    ] = None,
    max_wall_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest run of a payload.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of a job slot; 0: no limit.")
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(callback=options.positive_int32, metavar="N", help="Cores of a job slot."),
    ] = None,
    storage_root: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where outputs go: a directory, file:// or root:// URL."),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Silence after which a pilot's jobs go to another."),
    ] = None,
    locality_wait: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Longest wait of a job for a node that has its files."),
    ] = None,
    priority_band: Annotated[
        int | None,
        typer.Option(
            callback=options.positive_int32, metavar="N", help="Priorities that count as equal."
        ),
    ] = None,
    reset: Annotated[
        list[str] | None,
        typer.Option(
            "--reset",
            metavar="PARAMETER",
            help="Put a parameter back to its default. May be repeated.",
            autocompletion=_parameter_names,
        ),
    ] = None,
    etag: Annotated[
        str,
        typer.Option(metavar="ETAG", help="Change it only if it is still as it was read."),
    ] = "",
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Create a queue or change one; what is not named stays as it is."""
    wall_time = options.duration_option("--max-wall-time", max_wall_time)
    lease_span = options.duration_option("--lease", lease)
    wait_span = options.duration_option("--locality-wait", locality_wait)
    queue = queueconfig.Queue(
        name=name,
        site=site,
        cloud=cloud,
        status=None if status is None else words.read_queue_status(status),
        max_input_bytes=options.size_option("--max-input", max_input),
        max_work_dir_bytes=options.size_option("--max-work-dir", max_work_dir),
        max_wall_time=None if wall_time is None else options.to_duration(wall_time),
        memory_bytes=options.size_option("--memory", memory),
        cores=cores,
        storage_root=None if storage_root is None else _storage_url(storage_root),
        lease_duration=None if lease_span is None else options.to_duration(lease_span),
        locality_wait=None if wait_span is None else options.to_duration(wait_span),
        priority_band=priority_band,
    )
    request = queueconfig.ApplyQueueRequest(queue=queue, etag=etag)
    if reset:
        # A mask replaces the rule "what is set": so it names both.
        was_set = [field.name for field, _ in queue.ListFields() if field.name != "name"]
        request.update_mask.paths.extend([*was_set, *_fields_to_reset(reset, was_set)])
    with options.connect(ctx, server) as client:
        try:
            reply = client.call(client.queues.ApplyQueue, request)
        except CliError as error:
            raise with_places(error, _option_of) from error
    if json_output:
        print_json(message_json(reply))
        return
    print_lines([f"queue {name} {'created' if reply.created else 'is now'}:"])
    print_fields(_facts(reply.queue))


def _option_of(field: str) -> str:
    bare = field.removeprefix("queue.")
    return next((f"--{name}" for name, known in _PARAMETERS.items() if known == bare), bare)


def _fields_to_reset(names: list[str], was_set: list[str]) -> list[str]:
    fields = []
    for name in names:
        field = _PARAMETERS.get(name.replace("_", "-").removeprefix("--"))
        field = name if field is None and name in _PARAMETERS.values() else field
        if field is None:
            raise usage_error(
                "INVALID_OPTION",
                f"--reset {name}: a queue has no such parameter",
                remedies=[f"choose from: {', '.join(_PARAMETERS)}"],
            )
        if field in was_set:
            raise usage_error("INVALID_OPTION", f"--reset {name}: it is set by the same command")
        fields.append(field)
    return fields


def _storage_url(text: str) -> str:
    if "://" in text or not text:
        return text
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise usage_error(
            "INVALID_OPTION",
            f"--storage-root {text}: it is not absolute",
            details=["pilots on other machines have other working directories"],
            remedies=[f"write {path.absolute()}, if it is the same directory on all nodes"],
        )
    return path.as_uri()


def _row(queue: queueconfig.Queue, now: datetime) -> list[Cell]:
    return [
        queue.name,
        queue.site,
        queue.cloud,
        state_text(words.queue_status(queue.status)),
        format_limit(queue.max_input_bytes),
        format_duration(queue.lease_duration),
        format_duration(queue.locality_wait),
        format_age(queue.update_time, now),
        location(queue.storage_root),
    ]


def _facts(queue: queueconfig.Queue) -> Iterator[tuple[str, Cell]]:
    yield "name", queue.name
    yield "site", queue.site
    yield "cloud", queue.cloud
    yield "status", state_text(words.queue_status(queue.status))
    yield "max-input", format_limit(queue.max_input_bytes)
    yield "max-work-dir", format_limit(queue.max_work_dir_bytes)
    yield "max-wall-time", format_duration(queue.max_wall_time)
    yield "memory", format_limit(queue.memory_bytes)
    yield "cores", queue.cores
    yield "storage-root", queue.storage_root or "none: it takes no outputs"
    yield "lease", format_duration(queue.lease_duration)
    yield "locality-wait", format_duration(queue.locality_wait)
    yield "priority-band", queue.priority_band
    yield "etag", queue.etag
    yield "changed", format_time(queue.update_time)
