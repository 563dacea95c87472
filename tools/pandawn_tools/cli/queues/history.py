"""`pandawn queues history|diff|rollback`: who changed what, when and why, and how to undo it."""

from typing import Annotated

import typer

from pandawn.queueconfig.v1 import document_pb2, revision_pb2
from pandawn_tools.cli import options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.queues.changes import counts, print_diffs
from pandawn_tools.cli.queues.common import (
    MessageOption,
    RemovalsOption,
    change_configuration,
    change_note,
    too_many_removals,
)
from pandawn_tools.cli.queues.single import LEVEL_KINDS, Level
from pandawn_tools.cli.render import note
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_time

_COLUMNS = (
    Column("REVISION", "right"),
    Column("WHEN"),
    Column("WHO", fold=True),
    Column("WHAT", fold=True),
    Column("WITH", fold=True, optional=True),
    Column("FROM", fold=True, optional=True),
    Column("WHY", fold=True, optional=True),
)
_CAUSES = {
    revision_pb2.REVISION_CAUSE_APPLY: "",
    revision_pb2.REVISION_CAUSE_OVERRIDE: "override",
    revision_pb2.REVISION_CAUSE_CLEAR: "override cleared",
    revision_pb2.REVISION_CAUSE_EXPIRE: "override ended",
    revision_pb2.REVISION_CAUSE_ROLLBACK: "rollback",
    revision_pb2.REVISION_CAUSE_MIGRATION: "migration",
}


def history(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[QUEUE]", help="Only of this queue (site, cloud: --level)."),
    ] = None,
    level: Annotated[Level, typer.Option(help="Kind of the name.")] = Level.QUEUE,
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show who changed queues, when and why, newest first."""
    kind = document_pb2.DOCUMENT_KIND_UNSPECIFIED if name is None else LEVEL_KINDS[level]
    with options.connect(ctx, server) as client:
        rows, more = client.pages(
            lambda token, size: client.call(
                client.queues.ListRevisions,
                revision_pb2.ListRevisionsRequest(
                    page_token=token, page_size=size, kind=kind, name=name or ""
                ),
            ),
            lambda page: page.revisions,
            limit=options.limit_or_none(limit, everything),
        )
    if json_output:
        print_messages(rows)
        return
    what = f"No revision changed {level.value} {name}." if name else "Nothing has been changed yet."
    print_table(_COLUMNS, map(_row, rows), empty=what)
    if more:
        note(f"the {len(rows):,} newest; --limit N or --all shows more")


def diff(
    ctx: typer.Context,
    from_revision: Annotated[
        int, typer.Argument(metavar="FROM", min=0, help="Revision; 0: before the first.")
    ],
    to_revision: Annotated[
        int, typer.Argument(metavar="[TO]", min=0, help="Revision; by default the current one.")
    ] = 0,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show the differences between two revisions; in reverse if the older one is second."""
    diffs: list[document_pb2.DocumentDiff] = []

    def from_the_start() -> revision_pb2.DiffRevisionsRequest:
        diffs.clear()
        return revision_pb2.DiffRevisionsRequest(
            from_revision=from_revision, to_revision=to_revision
        )

    reached = to_revision
    with options.connect(ctx, server) as client:
        for reply in client.follow(client.queues.DiffRevisions, from_the_start):
            reached = reply.to_revision
            diffs += reply.diffs
    if json_output:
        print_json(
            {
                "from_revision": from_revision,
                "to_revision": reached,
                "diffs": [message_json(item) for item in diffs],
            }
        )
        return
    print_diffs(diffs)
    summary = counts(diffs, done=True) or "no difference"
    note(f"from revision {from_revision} to {reached}: {summary}")


def rollback(
    ctx: typer.Context,
    revision: Annotated[
        int, typer.Argument(metavar="REVISION", min=1, help="Revision to go back to.")
    ],
    message: MessageOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    allow_offline: RemovalsOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Roll all queues, sites and clouds back to a revision, as a new revision.

    Overrides stay: they end by themselves, or by `pandawn queues override QUEUE --clear`.
    """
    with options.connect(ctx, server) as client:
        reply = _roll_back(client, revision, message, allow_offline, dry_run=dry_run)
    if json_output:
        print_json(message_json(reply))
    else:
        print_diffs(reply.diffs)
    if not reply.diffs:
        note(f"nothing to do: nothing differs from revision {revision}")
    elif dry_run:
        note(f"{counts(reply.diffs, done=False)}; nothing was changed")
        for name in reply.queues_in_use:
            note(f"queue {name} has jobs or pilots: it cannot be deleted yet")
        if reply.removals > reply.removals_limit:
            note(f"the rollback would need --allow-offline {reply.removals}")
    else:
        note(f"revision {reply.revision} restores revision {revision}")


def _roll_back(
    client: Client, revision: int, message: str, allowed: int | None, *, dry_run: bool
) -> revision_pb2.RollbackResponse:
    request = revision_pb2.RollbackRequest(
        revision=revision,
        validate_only=True,
        allowed_removals=allowed,
        note=change_note(message or f"rollback to revision {revision}"),
    )
    planned = change_configuration(client, client.queues.Rollback, request)
    if dry_run or not planned.diffs:
        return planned
    removals, limit = planned.removals, planned.removals_limit
    if removals > limit and (allowed is None or removals > allowed):
        raise too_many_removals(removals, limit, f"the rollback to revision {revision}")
    request.validate_only = False
    return change_configuration(client, client.queues.Rollback, request)


def _row(revision: revision_pb2.Revision) -> list[Cell]:
    done = [
        f"{count} {word}"
        for count, word in (
            (revision.created_count, "created"),
            (revision.changed_count, "changed"),
            (revision.deleted_count, "deleted"),
        )
        if count
    ]
    cause = _CAUSES.get(revision.cause, "")
    return [
        revision.number,
        format_time(revision.change_time),
        revision.author,
        ": ".join(filter(None, [cause, ", ".join(done)])),
        revision.tool,
        revision.peer,
        revision.message,
    ]
