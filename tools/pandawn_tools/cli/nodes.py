"""`pandawn nodes` and `pandawn pilots`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from pandawn.common.v1 import common_pb2 as types
from pandawn.monitor.v1 import monitor_pb2 as monitor
from pandawn.queueconfig.v1 import node_pb2 as queueconfig
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.plain import PlainApp
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


SiteFilter = Annotated[
    str | None, typer.Option("--site", metavar="SITE", help="Only nodes of this site.")
]

app = PlainApp(no_args_is_help=False)


@app.callback(invoke_without_command=True)
def nodes(
    ctx: typer.Context,
    site: SiteFilter = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List worker nodes with their pilots and caches; drain, suspend, resume or remove a node."""
    if ctx.invoked_subcommand is not None:
        return
    _list(ctx, site, json_output=json_output, server=server)


@app.command("list")
def list_command(
    ctx: typer.Context,
    site: SiteFilter = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List worker nodes with their pilots and caches, as `pandawn nodes` does."""
    _list(ctx, site, json_output=json_output, server=server)


def _list(ctx: typer.Context, site: str | None, *, json_output: bool, server: str | None) -> None:
    with options.connect(ctx, server) as client:
        rows = list_nodes(client, site or "")
    if json_output:
        print_messages(rows)
        return
    now = datetime.now(UTC)
    print_table(
        _NODE_COLUMNS,
        (_node_row(node, now) for node in rows),
        empty="There are no such nodes. A node appears when a pilot runs on it.",
    )


NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Full host name of the node.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Reason, shown with the node.")
]
SiteOption = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="SITE",
        help="Site of the node. Needed only if several sites have a node of this name.",
    ),
]


@app.command()
def drain(
    ctx: typer.Context,
    node: NodeArgument,
    reason: ReasonOption,
    site: SiteOption = None,
    server: options.ServerOption = None,
) -> None:
    """Give a node no more jobs, and let its pilots exit when its jobs have ended."""
    with options.connect(ctx, server) as client:
        found = find_node(client, node, site or "")
        request = queueconfig.DrainNodeRequest(site=found.site, node=found.name, reason=reason)
        client.call(client.queues.DrainNode, request)
    jobs = format_count(found.job_count, "job")
    note(f"{found.name} gets no more jobs. It has {jobs}; its pilots exit when these have ended.")


@app.command()
def suspend(
    ctx: typer.Context,
    node: NodeArgument,
    reason: ReasonOption,
    site: SiteOption = None,
    server: options.ServerOption = None,
) -> None:
    """Give a node no jobs until it is resumed; its pilots keep running."""
    with options.connect(ctx, server) as client:
        found = find_node(client, node, site or "")
        request = queueconfig.SuspendNodeRequest(site=found.site, node=found.name, reason=reason)
        client.call(client.queues.SuspendNode, request)
    note(f"{found.name} gets no jobs until: pandawn nodes resume {found.name}")


@app.command()
def resume(
    ctx: typer.Context,
    node: NodeArgument,
    reason: ReasonOption,
    site: SiteOption = None,
    server: options.ServerOption = None,
) -> None:
    """Give a suspended or drained node jobs again."""
    with options.connect(ctx, server) as client:
        found = find_node(client, node, site or "")
        request = queueconfig.ResumeNodeRequest(site=found.site, node=found.name, reason=reason)
        client.call(client.queues.ResumeNode, request)
    note(f"{found.name} gets jobs again, within seconds.")


@app.command()
def remove(
    ctx: typer.Context,
    node: NodeArgument,
    reason: ReasonOption,
    site: SiteOption = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Remove its pins too.")] = False,
    server: options.ServerOption = None,
) -> None:
    """Remove a node that no longer exists, with its pilots and cached files. Its jobs run elsewhere."""
    with options.connect(ctx, server) as client:
        found = find_node(client, node, site or "")
        done = client.call(
            client.queues.RemoveNode,
            queueconfig.RemoveNodeRequest(
                site=found.site, node=found.name, reason=reason, unpin=unpin
            ),
        )
    note(
        f"{found.name} is removed, with {format_count(done.files_forgotten, 'cached file')}; "
        f"{format_count(done.jobs_taken_back, 'job')} will run elsewhere."
    )


@app.command()
def show(
    ctx: typer.Context,
    node: NodeArgument,
    site: SiteOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show whether a node gets jobs, and the failures that suspended it."""
    with options.connect(ctx, server) as client:
        found = find_node(client, node, site or "")
    if json_output:
        print_messages([found])
        return
    now = datetime.now(UTC)
    typer.echo(f"{found.name} at {found.site}: {_standing(found) or 'gets jobs'}")
    typer.echo(
        f"{format_count(found.pilot_count, 'pilot')} with {format_count(found.job_count, 'job')}, "
        f"last contact {format_age(found.contact_time, now)} ago"
    )
    if found.evidence:
        typer.echo(f"Why it was suspended at {format_time(found.change_time)}:")
        for line in found.evidence:
            typer.echo(f"  {clean(line)}")


def find_node(client: Client, name: str, site: str) -> monitor.Node:
    """Finds a node by its full name or by the part before the first dot.

    Raises:
        CliError: There is no such node, or there are several.
    """
    rows = list_nodes(client, site)
    found = [node for node in rows if node.name == name] or [
        node for node in rows if node.name.partition(".")[0] == name
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CliError(
            ExitStatus.REFUSED,
            "NODE_NOT_FOUND",
            f"there is no node {name}",
            remedies=["list the nodes: pandawn nodes"],
        )
    places = ", ".join(f"{node.name} at {node.site}" for node in found)
    raise CliError(
        ExitStatus.USAGE,
        "NODE_AMBIGUOUS",
        f"several nodes match {name}: {places}",
        remedies=["give the full name, and --site if sites have nodes of the same name"],
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
        bool, typer.Option("--ended", help="Show also pilots that have ended or are lost.")
    ] = False,
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List pilots, newest first."""
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
        hint = "" if ended else " --ended shows those that have ended."
        print_table(
            _PILOT_COLUMNS,
            (_pilot_row(pilot, now) for pilot in rows),
            empty=f"There are no such pilots.{hint}",
        )
    if more:
        note(f"Only the newest {len(rows)} are shown. --limit N or --all shows more.")


def _node_row(node: monitor.Node, now: datetime) -> list[Cell]:
    unknown = node.locality == types.LOCALITY_UNKNOWN
    has_cache = node.HasField("cache")
    return [
        node.site,
        node.name,
        node.pilot_count,
        node.job_count,
        "?" if unknown else node.cache.file_count if has_cache else "-",
        "?" if unknown else format_size(node.cache.total_bytes) if has_cache else "-",
        format_age(node.contact_time, now),
        _node_note(node, unknown=unknown),
    ]


def _node_note(node: monitor.Node, *, unknown: bool) -> Cell:
    standing = _standing(node)
    if standing:
        return Text(clean(standing), style="bold red")
    if unknown:
        return "the catalog does not answer"
    pinned = node.cache.pinned_count
    return f"{format_count(pinned, 'file')} pinned" if pinned else ""


def _standing(node: monitor.Node) -> str:
    """Returns why a node gets no jobs, or one at a time; empty if it gets jobs."""
    by = f" by {node.changed_by}" if node.changed_by else ""
    match node.condition:
        case types.NODE_CONDITION_DRAINED:
            return f"drained{by}: {node.suspend_reason}"
        case types.NODE_CONDITION_SUSPENDED if node.HasField("suspended_until_time"):
            until = format_time(node.suspended_until_time)
            return f"no jobs until {until}: {node.suspend_reason}"
        case types.NODE_CONDITION_SUSPENDED:
            return f"suspended{by}: {node.suspend_reason}"
        case types.NODE_CONDITION_PROBATION:
            good = format_count(node.good_probes, "good probe")
            return f"one job at a time, {good} so far: {node.suspend_reason}"
        case _:
            return ""


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
