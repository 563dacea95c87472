"""`pandawn queues set|delete`: changes single documents of a queue, site or cloud."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated

import typer

from pandawn.queueconfig.v1 import document_pb2, parameters_pb2, queue_pb2
from pandawn_tools.cli import options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.queues.changes import print_diffs, shown
from pandawn_tools.cli.queues.common import (
    MessageOption,
    Name,
    RemovalsOption,
    call_for_parameters,
    change_note,
    complete_assignments,
    complete_parameters,
    fetch_configuration,
    parameter_names,
    read_assignments,
    standing_revision,
)
from pandawn_tools.cli.queues.show import facts
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import print_fields
from pandawn_tools.queuefiles.document import CLOUD, QUEUE, SITE
from pandawn_tools.queuefiles.parameters import parameters, value_of
from pandawn_tools.queuefiles.problems import suggestion

EtagOption = Annotated[
    str, typer.Option(metavar="ETAG", help="Change it only if it has still this etag.")
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
    """The level whose document is changed."""

    QUEUE = "queue"
    SITE = "site"
    CLOUD = "cloud"


LEVEL_KINDS = {Level.QUEUE: QUEUE, Level.SITE: SITE, Level.CLOUD: CLOUD}


def set_parameters(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Queue, or site or cloud (--level).")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PARAMETER=VALUE]...",
            help="Parameters to set: sizes and times with unit, lists as a,b, mappings as a=1,b=2.",
            autocompletion=complete_assignments,
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        Level, typer.Option(help="Level to change: a site's values apply to all its queues.")
    ] = Level.QUEUE,
    create: Annotated[
        bool, typer.Option("--create", help="Create it if it does not exist.")
    ] = False,
    reset: ResetOption = None,
    message: MessageOption = "",
    etag: EtagOption = "",
    allow_offline: RemovalsOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Change a queue, or create one; parameters that are not named keep their values.

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
    if not mask and (level is not Level.QUEUE or not create):
        raise usage_error("INVALID_OPTION", "give parameters to set, or to --reset")
    with options.connect(ctx, server) as client:
        if not create:
            _check_known(client, level, name)
        if level is Level.QUEUE:
            send_queue(
                client,
                name,
                values,
                mask=mask,
                etag=etag,
                allowed=allow_offline,
                message=message,
                json_output=json_output,
                places={},
            )
            return
        change = document_pb2.DocumentChange(
            kind=LEVEL_KINDS[level], name=name, parameters=values, etag=etag
        )
        change.update_mask.paths.extend(mask)
        request = document_pb2.ApplyConfigRequest(
            changes=[change], allowed_removals=allow_offline, note=change_note(message)
        )
        reply = call_for_parameters(client, client.queues.ApplyConfig, request)
    if json_output:
        print_json(message_json(reply))
        return
    print_diffs(reply.diffs)
    note(f"revision {reply.revision}" if reply.diffs else "nothing to do")


def _check_known(client: Client, level: Level, name: str, *, to_create: bool = True) -> None:
    """Raises `CliError`, with similar names, if the document does not exist: the name may be a typing error."""
    if level is Level.QUEUE and _standing(client, name) is not None:
        return
    queues, _ = client.pages(
        lambda token, size: client.call(
            client.queues.ListQueues,
            queue_pb2.ListQueuesRequest(page_token=token, page_size=size),
        ),
        lambda page: page.queues,
        limit=None,
    )
    if level is Level.QUEUE:
        known = {queue.name for queue in queues}
    else:
        # A site may have a document before it has a queue.
        documents = fetch_configuration(client, [LEVEL_KINDS[level]]).documents
        known = {key.name for key in documents}
        known |= {
            queue.parameters.site if level is Level.SITE else queue.parameters.cloud
            for queue in queues
        }
    if name not in known:
        hint = "to create it, repeat with --create; " if to_create else ""
        raise CliError(
            ExitStatus.REFUSED,
            "QUEUE_NOT_FOUND" if level is Level.QUEUE else f"{level.name}_NOT_FOUND",
            f"there is no {level.value} {name}{suggestion(name, sorted(known))}",
            details=["nothing was changed"],
            remedies=[f"{hint}list all queues: pandawn queues list"],
        )


def delete_queue(
    ctx: typer.Context,
    name: Name,
    message: MessageOption = "",
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Delete a queue that has neither jobs nor pilots. Its history stays: `rollback` can restore it."""
    with options.connect(ctx, server) as client:
        _check_known(client, Level.QUEUE, name, to_create=False)
        change = document_pb2.DocumentChange(kind=QUEUE, name=name, remove=True)
        reply = client.call(
            client.queues.ApplyConfig,
            # The user named one queue, which may be more than the default quarter at a small site.
            document_pb2.ApplyConfigRequest(
                changes=[change], allowed_removals=1, note=change_note(message)
            ),
        )
    if json_output:
        print_json(message_json(reply))
    else:
        print_lines([f"queue {name} deleted, revision {reply.revision}"])


def send_queue(
    client: Client,
    name: str,
    values: parameters_pb2.QueueParameters,
    *,
    mask: list[str],
    etag: str,
    allowed: int | None,
    message: str,
    json_output: bool,
    places: Mapping[str, str],
) -> None:
    """Changes one queue and shows what changed; `places` has the options of parameters, for error messages.

    Only what `mask` names is written; without a mask the queue is made of defaults, if there is none.
    """
    revision = standing_revision(client)
    before = _standing(client, name)
    change = document_pb2.DocumentChange(kind=QUEUE, name=name, parameters=values, etag=etag)
    change.update_mask.paths.extend(mask)
    request = document_pb2.ApplyConfigRequest(
        changes=[change],
        # The user named one queue, which may be more than the default quarter at a small site.
        allowed_removals=1 if allowed is None else allowed,
        note=change_note(message),
    )
    created = False
    if mask or before is None:
        if not mask:
            # Without a mask this would replace the whole document of a queue that was created meanwhile.
            request.expected_revision = revision
        reply = call_for_parameters(client, client.queues.ApplyConfig, request, places)
        created = any(d.action == document_pb2.DOCUMENT_ACTION_CREATE for d in reply.diffs)
    after = client.call(client.queues.GetQueue, queue_pb2.GetQueueRequest(name=name)).queue
    if json_output:
        print_json({"queue": message_json(after), "created": created})
        return
    if created or before is None:
        print_lines([f"queue {name} created:"])
        print_fields(facts(after))
        return
    changed = [
        f"  {parameter.name}: {shown(before.parameters, parameter)} -> {shown(after.parameters, parameter)}"
        for parameter in parameters().values()
        if value_of(before.parameters, parameter) != value_of(after.parameters, parameter)
    ]
    print_lines([f"queue {name}, revision {after.revision}:", *changed] if changed else [])
    if not changed:
        note(f"queue {name} was not changed")


def _standing(client: Client, name: str) -> queue_pb2.Queue | None:
    try:
        return client.call(client.queues.GetQueue, queue_pb2.GetQueueRequest(name=name)).queue
    except CliError as error:
        if error.reason != "QUEUE_NOT_FOUND":
            raise
        return None
