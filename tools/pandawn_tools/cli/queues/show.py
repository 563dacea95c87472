"""`pandawn queues list|show`: queues with their effective parameters, and the origin of each value."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from pandawn.queueconfig.v1 import parameters_pb2, queue_pb2
from pandawn_tools.cli import options, words
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.queues.common import Name
from pandawn_tools.cli.render import clean, location, state_text
from pandawn_tools.cli.tables import Cell, Column, print_fields, print_table
from pandawn_tools.cli.units import format_age, format_duration, format_limit, format_time
from pandawn_tools.queuefiles.parameters import Parameter, parameters, value_of
from pandawn_tools.queuefiles.values import plain

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
_ORIGIN_COLUMNS = (
    Column("PARAMETER"),
    Column("VALUE", fold=True),
    Column("FROM", fold=True),
    Column("BY", fold=True, optional=True),
    Column("SINCE", optional=True),
    Column("UNTIL", optional=True),
    Column("WHY", fold=True, optional=True),
)
_LEVELS = {
    queue_pb2.LEVEL_DEFAULT: "default",
    queue_pb2.LEVEL_CLOUD: "cloud",
    queue_pb2.LEVEL_SITE: "site",
    queue_pb2.LEVEL_QUEUE: "queue",
    queue_pb2.LEVEL_OVERRIDE: "override",
}


def list_queues(
    ctx: typer.Context,
    site: Annotated[
        str | None, typer.Option("--site", metavar="SITE", help="Only of this site.")
    ] = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List queues. WAIT is the longest time that a job is held for a node that has its files."""
    with options.connect(ctx, server) as client:
        rows, _ = client.pages(
            lambda token, size: client.call(
                client.queues.ListQueues,
                queue_pb2.ListQueuesRequest(page_token=token, page_size=size, site=site or ""),
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
        empty="There are no queues; create one: pandawn queues set --create QUEUE storage_root=file:///DIR",
    )


def show(
    ctx: typer.Context,
    name: Name,
    origin: Annotated[
        bool, typer.Option("--origin", help="Show where each value comes from, and who set it.")
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show the effective parameters of a queue, and the etag that `set --etag` takes."""
    request = queue_pb2.GetQueueRequest(name=name, with_origins=origin)
    with options.connect(ctx, server) as client:
        reply = client.call(client.queues.GetQueue, request)
    if json_output:
        print_json(message_json(reply) if origin else message_json(reply.queue))
    elif origin:
        print_table(_ORIGIN_COLUMNS, _origin_rows(reply), empty="")
    else:
        print_fields(facts(reply.queue))


def facts(queue: queue_pb2.Queue) -> Iterator[tuple[str, Cell]]:
    """Yields the fields of a queue: its parameters by group, then its version."""
    yield "name", queue.name
    for parameter in parameters().values():
        yield parameter.name, _cell(queue.parameters, parameter)
    yield "etag", queue.etag
    yield "revision", queue.revision
    yield "changed", format_time(queue.update_time)


def _cell(queue: parameters_pb2.QueueParameters, parameter: Parameter) -> Cell:
    value = value_of(queue, parameter)
    if value is None:
        return ""
    if parameter.name == "status":
        return state_text(plain(parameter, value))
    # print_fields leaves out empty texts, lists and mappings.
    empty = isinstance(value, str | Sequence | dict) and not value
    return "" if empty else plain(parameter, value)


def _origin_rows(reply: queue_pb2.GetQueueResponse) -> Iterator[list[Cell]]:
    origins = {origin.parameter: origin for origin in reply.origins}
    for parameter in parameters().values():
        origin = origins.get(parameter.name, queue_pb2.Origin())
        level = _LEVELS.get(origin.level, "")
        # For its own document and overrides, the name of the queue is left out.
        named = "" if origin.name == reply.queue.name else origin.name
        value = value_of(reply.queue.parameters, parameter)
        shown = "" if value is None else plain(parameter, value)
        style = "" if origin.level != queue_pb2.LEVEL_DEFAULT else "dim"
        yield [
            Text(parameter.name, style=style),
            Text(shown, style=style),
            Text(clean(f"{level} {named}".strip()), style=style),
            origin.author,
            format_time(origin.set_time),
            format_time(origin.expire_time),
            origin.message,
        ]


def _row(queue: queue_pb2.Queue, now: datetime) -> list[Cell]:
    values = queue.parameters
    return [
        queue.name,
        values.site,
        values.cloud,
        state_text(words.queue_status(values.status)),
        format_limit(values.max_input_bytes),
        format_duration(values.lease_duration),
        format_duration(values.locality_wait),
        format_age(queue.update_time, now),
        location(values.storage_root),
    ]
