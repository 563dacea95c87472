"""`pandawn queues set`: some parameters of one queue, site or cloud."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated

import typer

from pandawn.queueconfig.v1 import queueconfig_pb2 as queueconfig
from pandawn_tools.cli import options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.queues.changes import print_diffs
from pandawn_tools.cli.queues.common import (
    MessageOption,
    RemovalsOption,
    call_for_parameters,
    change_note,
    complete_assignments,
    complete_parameters,
    parameter_names,
    read_assignments,
)
from pandawn_tools.cli.queues.show import facts
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import print_fields
from pandawn_tools.queuefiles.document import CLOUD, QUEUE, SITE

EtagOption = Annotated[
    str, typer.Option(metavar="ETAG", help="Change it only if it is still as it was read.")
]
ResetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reset",
        metavar="PARAMETER",
        help="Unset a parameter. May be repeated.",
        autocompletion=complete_parameters,
    ),
]


class Level(Enum):
    """Whose document is changed."""

    QUEUE = "queue"
    SITE = "site"
    CLOUD = "cloud"


LEVEL_KINDS = {Level.QUEUE: QUEUE, Level.SITE: SITE, Level.CLOUD: CLOUD}


def set_parameters(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Queue, or what --level says.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PARAMETER=VALUE]...",
            help="What to set: sizes and times with their unit, lists as a,b, mappings as a=1,b=2.",
            autocompletion=complete_assignments,
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        Level, typer.Option(help="Whose document: what a site sets holds for all its queues.")
    ] = Level.QUEUE,
    reset: ResetOption = None,
    message: MessageOption = "",
    etag: EtagOption = "",
    allow_offline: RemovalsOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Create a queue or change one; what is not named stays as it is.

    With --level site or cloud the document that all queues of the site or cloud inherit from.
    """
    values = read_assignments(pairs or [])
    mask = [field.name for field, _ in values.ListFields()]
    for parameter in parameter_names(reset or [], "--reset"):
        if parameter in mask:
            raise usage_error(
                "INVALID_OPTION", f"--reset {parameter}: it is set by the same command"
            )
        mask.append(parameter)
    with options.connect(ctx, server) as client:
        if level is Level.QUEUE:
            values.name = name
            # A queue may be made of defaults alone, and then there is nothing to mask.
            send_queue(
                client,
                values,
                mask=mask if reset else [],
                etag=etag,
                message=message,
                json_output=json_output,
                places={},
            )
            return
        change = queueconfig.DocumentChange(
            kind=LEVEL_KINDS[level], name=name, parameters=values, etag=etag
        )
        change.update_mask.paths.extend(mask)
        request = queueconfig.ApplyConfigRequest(
            changes=[change], allowed_removals=allow_offline, note=change_note(message)
        )
        if not mask:
            raise usage_error("INVALID_OPTION", "say what to set, or what to --reset")
        reply = call_for_parameters(client, client.queues.ApplyConfig, request)
    if json_output:
        print_json(message_json(reply))
        return
    print_diffs(reply.diffs)
    note(f"revision {reply.revision}" if reply.diffs else "nothing was to do")


def send_queue(
    client: Client,
    queue: queueconfig.Queue,
    *,
    mask: list[str],
    etag: str,
    message: str,
    json_output: bool,
    places: Mapping[str, str],
) -> None:
    """Applies one queue and shows it; `places` names parameters as their typist knows them."""
    request = queueconfig.ApplyQueueRequest(queue=queue, etag=etag, note=change_note(message))
    request.update_mask.paths.extend(mask)
    reply = call_for_parameters(client, client.queues.ApplyQueue, request, places)
    if json_output:
        print_json(message_json(reply))
        return
    print_lines([f"queue {queue.name} {'created' if reply.created else 'is now'}:"])
    print_fields(facts(reply.queue))
