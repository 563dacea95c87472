"""`pandawn nodes` and `pandawn pilots`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from pandawn.monitor.v1 import monitor_pb2 as monitor
from pandawn.type.v1 import type_pb2 as types
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.render import clean, note, state_text
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_age, format_count, format_size, format_time

_NODE_COLUMNS = (
    Column("SITE", fold=True),
    Column("NODE", fold=True),
    Column("PILOTS", "right"),
    Column("JOBS", "right"),
    Column("FILES", "right"),
    Column("CACHED", "right"),
    Column("CONTACT", "right"),
    Column("NOTE", fold=True, optional=True),
)
_PILOT_COLUMNS = (
    Column("PILOT", fold=True),
    Column("STATE"),
    Column("QUEUE", fold=True),
    Column("NODE", fold=True),
    Column("JOBS", "right"),
    Column("CONTACT", "right"),
    Column("AGE", "right"),
    Column("BATCH", fold=True, optional=True),
    Column("NOTE", fold=True, optional=True),
)


def nodes(
    ctx: typer.Context,
    site: Annotated[
        str | None, typer.Option("--site", metavar="SITE", help="Only of this site.")
    ] = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List worker nodes with their pilots and caches."""
    with options.connect(ctx, server) as client:
        rows = list_nodes(client, site or "")
    if json_output:
        print_messages(rows)
        return
    now = datetime.now(UTC)
    print_table(
        _NODE_COLUMNS,
        (_node_row(node, now) for node in rows),
        empty="There are no such nodes; one becomes known when a pilot runs on it.",
    )


def list_nodes(client: Client, site: str) -> Sequence[monitor.Node]:
    """Returns all nodes, of one site or (empty) of all.

    Raises:
        CliError: The server refused or cannot be reached.
    """
    rows, _ = client.pages(
        lambda token, size: client.call(
            client.monitor.ListNodes,
            monitor.ListNodesRequest(page_token=token, page_size=size, site=site),
        ),
        lambda page: page.nodes,
        limit=None,
    )
    return rows


def pilots(
    ctx: typer.Context,
    queue: options.QueueFilter = None,
    ended: Annotated[
        bool, typer.Option("--ended", help="Also those that have ended or are lost.")
    ] = False,
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List pilots, the last registered first."""
    with options.connect(ctx, server) as client:
        rows, more = client.pages(
            lambda token, size: client.call(
                client.monitor.ListPilots,
                monitor.ListPilotsRequest(
                    page_token=token, page_size=size, queue=queue or "", include_ended=ended
                ),
            ),
            lambda page: page.pilots,
            limit=options.limit_or_none(limit, everything),
        )
    if json_output:
        print_messages(rows)
    else:
        now = datetime.now(UTC)
        hint = "" if ended else "; --ended shows those that were"
        print_table(
            _PILOT_COLUMNS,
            (_pilot_row(pilot, now) for pilot in rows),
            empty=f"There are no such pilots{hint}.",
        )
    if more:
        note(f"The last {len(rows)} are shown; --limit N or --all shows more.")


def _node_row(node: monitor.Node, now: datetime) -> list[Cell]:
    unknown = node.locality == types.LOCALITY_UNKNOWN
    has_cache = node.HasField("cache")
    return [
        node.site,
        node.node,
        node.pilot_count,
        node.job_count,
        "?" if unknown else node.cache.file_count if has_cache else "-",
        "?" if unknown else format_size(node.cache.total_bytes) if has_cache else "-",
        format_age(node.contact_time, now),
        _node_note(node, unknown=unknown),
    ]


def _node_note(node: monitor.Node, *, unknown: bool) -> Cell:
    if node.HasField("suspended_until_time"):
        until = format_time(node.suspended_until_time)
        return Text(clean(f"no jobs until {until}: {node.suspend_reason}"), style="bold red")
    if unknown:
        return "the catalog does not answer"
    pinned = node.cache.pinned_count
    return f"{format_count(pinned, 'file')} pinned" if pinned else ""


def _pilot_row(pilot: monitor.Pilot, now: datetime) -> list[Cell]:
    return [
        pilot.pilot_id,
        state_text(words.pilot_state(pilot.state)),
        pilot.queue,
        pilot.node,
        pilot.job_count,
        format_age(pilot.contact_time, now),
        format_age(pilot.register_time, now),
        pilot.batch_id,
        pilot.end_reason,
    ]
