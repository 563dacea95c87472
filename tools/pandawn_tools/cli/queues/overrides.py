"""`pandawn queues override|overrides`: parameters that are set for a limited time."""

from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import typer

from pandawn.queueconfig.v1 import override_pb2
from pandawn_tools.cli import options
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.queues.common import (
    MessageOption,
    Name,
    call_for_parameters,
    change_note,
    complete_assignments,
    parameter_names,
    read_assignments,
)
from pandawn_tools.cli.render import note
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_count, format_span, format_time
from pandawn_tools.queuefiles.parameters import parameters, value_of
from pandawn_tools.queuefiles.values import plain

_COLUMNS = (
    Column("QUEUE", fold=True),
    Column("PARAMETER"),
    Column("VALUE", fold=True),
    Column("UNTIL"),
    Column("BY", fold=True),
    Column("WHY", fold=True),
)


def override(
    ctx: typer.Context,
    name: Name,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PARAMETER=VALUE]...",
            help="Parameters to set; with --clear names of parameters, none for all.",
            autocompletion=complete_assignments,
            show_default=False,
        ),
    ] = None,
    span: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="How long: 90min, 2h, 3d.", show_default=False),
    ] = None,
    message: MessageOption = "",
    clear: Annotated[
        bool, typer.Option("--clear", help="Clear overrides before they expire.")
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Set parameters of a queue for a limited time; then the values of its documents apply again."""
    if clear:
        _clear(ctx, name, pairs or [], span, message, json_output=json_output, server=server)
        return
    if not pairs:
        raise usage_error("INVALID_OPTION", "give what to set as PARAMETER=VALUE, or --clear")
    length = options.duration_option("--for", span)
    if length is None or length <= timedelta(0):
        raise usage_error(
            "INVALID_OPTION",
            "give the duration of the override: --for 2h",
            remedies=["to set it permanently: pandawn queues set QUEUE PARAMETER=VALUE"],
        )
    if not message.strip():
        raise usage_error("NO_MESSAGE", "give a reason with -m TEXT: others will ask")
    values = read_assignments(pairs)
    request = override_pb2.SetOverrideRequest(
        request_id=str(uuid4()),
        queue=name,
        parameters=values,
        duration=options.to_duration(length),
        note=change_note(message),
    )
    with options.connect(ctx, server) as client:
        reply = call_for_parameters(client, client.queues.SetOverride, request)
    if json_output:
        print_json(message_json(reply))
    else:
        note(f"revision {reply.revision}: {name} has the override for {format_span(length)}")


def _clear(
    ctx: typer.Context,
    name: str,
    names: list[str],
    span: str | None,
    message: str,
    *,
    json_output: bool,
    server: str | None,
) -> None:
    if span is not None:
        raise usage_error(
            "INVALID_OPTION", "--for sets an override, --clear ends it: give only one"
        )
    request = override_pb2.ClearOverrideRequest(
        queue=name, parameters=parameter_names(names, "--clear"), note=change_note(message)
    )
    with options.connect(ctx, server) as client:
        reply = client.call(client.queues.ClearOverride, request)
    if json_output:
        print_json(message_json(reply))
    elif reply.cleared_count:
        note(f"revision {reply.revision}: {format_count(reply.cleared_count, 'override')} cleared")
    else:
        note("nothing to do: there is no such override")


def list_overrides(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[QUEUE]", help="Only of this queue.")
    ] = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List the overrides in effect: until when, by whom and why."""
    with options.connect(ctx, server) as client:
        rows, _ = client.pages(
            lambda token, size: client.call(
                client.queues.ListOverrides,
                override_pb2.ListOverridesRequest(
                    page_token=token, page_size=size, queue=name or ""
                ),
            ),
            lambda page: page.overrides,
            limit=None,
        )
    if json_output:
        print_messages(rows)
        return
    print_table(_COLUMNS, map(_row, rows), empty="No overrides.")


def _row(row: override_pb2.QueueOverride) -> list[Cell]:
    parameter = parameters().get(row.origin.parameter)
    value = None if parameter is None else value_of(row.value, parameter)
    return [
        row.queue,
        row.origin.parameter,
        "" if parameter is None or value is None else plain(parameter, value),
        format_time(row.origin.expire_time),
        row.origin.author,
        row.origin.message,
    ]
