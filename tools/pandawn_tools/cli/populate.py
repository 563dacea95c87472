"""`pandawn cache populate|pin|unpin|pins`: files of a node that its cache does not report."""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from pandawn.common.v1 import common_pb2 as types
from pandawn.filecatalog.v1 import filecatalog_pb2 as filecatalog
from pandawn.filecatalog.v1 import pins_pb2 as pins
from pandawn_tools.cli import options
from pandawn_tools.cli.cachenames import (
    FILES_A_CALL,
    GuidOption,
    Node,
    ScopeOption,
    batches,
    file_refs,
    find_site,
    named_file,
    note_unknown_versions,
)
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, usage_error
from pandawn_tools.cli.filelist import ListedFile, read_file_list, with_lines
from pandawn_tools.cli.jsonout import print_json, print_messages
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import Column, print_table
from pandawn_tools.cli.units import format_count, format_size, format_time

_LIST_HELP = "File with LFN SIZE [SCOPE [GUID [VERSION]]] on each line; - is standard input."

ListOption = Annotated[str | None, typer.Option("--list", "-l", metavar="FILE", help=_LIST_HELP)]


def populate(
    ctx: typer.Context,
    node: Annotated[
        str,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Full host name of the node. The server need not know it yet.",
        ),
    ],
    file_list: Annotated[str, typer.Option("--list", "-l", metavar="FILE", help=_LIST_HELP)],
    site: options.SiteOption = None,
    scope: ScopeOption = "",
    pin: Annotated[
        bool,
        typer.Option(
            "--pin",
            help="Pin the files: they stay in the catalog, whatever the node's cache reports.",
        ),
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Add many files to the catalog that were copied to a node by other means.

    If a cache on the node reports its files, its next report replaces these, unless they are pinned.
    """
    listed = read_file_list(file_list, scope)
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        before = _known_cache(client, where, node)
        if pin:
            _pin(client, where, node, listed)
        else:
            _send(
                listed,
                lambda files: client.call(
                    client.catalog.AddFiles,
                    filecatalog.AddFilesRequest(site=where, node=node, files=files),
                ),
                "added",
            )
    size_bytes = sum(one.file.size_bytes for one in listed)
    if json_output:
        print_json(
            {
                "site": where,
                "node": node.lower(),
                "file_count": len(listed),
                "total_bytes": size_bytes,
                "pinned": pin,
            }
        )
    else:
        done = "pinned on" if pin else "added to the catalog for"
        size = format_size(size_bytes)
        print_lines([f"{format_count(len(listed), 'file')}, {size}, {done} {node} at {where}"])
    note_unknown_versions(sum(not one.file.version for one in listed))
    if before is None:
        note(f"{node} is new to the catalog. Check that its pilots report the same name.")
    elif before.state.sequence and not pin:
        note(
            "The cache of this node reports its files, and its next report replaces these. --pin prevents that."
        )


def pin_files(
    ctx: typer.Context,
    node: Node,
    file_list: ListOption = None,
    lfn: Annotated[
        list[str] | None,
        typer.Option(
            "--lfn",
            metavar="NAME=SIZE[,VERSION]",
            help="A file to pin, such as a.root=2GB. May be repeated.",
        ),
    ] = None,
    site: options.SiteOption = None,
    scope: ScopeOption = "",
    server: options.ServerOption = None,
) -> None:
    """Pin files on a node: they count as local to it, whatever its cache reports."""
    listed = read_file_list(file_list, scope) if file_list else []
    listed += [ListedFile(named_file(pair, scope), f"--lfn {pair}") for pair in lfn or ()]
    if not listed:
        raise usage_error(
            "EMPTY_FILE_LIST",
            "there are no files to pin",
            remedies=["name a list with --list FILE, or files with --lfn NAME=SIZE[,VERSION]"],
        )
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        count, last = _pin(client, where, node, listed)
    note_unknown_versions(sum(not one.file.version for one in listed))
    total = f"{format_count(last.pinned_count, 'file')} in all, {format_size(last.pinned_bytes)}"
    print_lines([f"{format_count(count, 'file')} newly pinned on {node} at {where}; {total}"])


def unpin_files(
    ctx: typer.Context,
    node: Node,
    lfns: Annotated[
        list[str] | None, typer.Argument(metavar="LFN", help="Logical file names.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Unpin all files of the node.")] = False,
    site: options.SiteOption = None,
    scope: ScopeOption = "",
    guid: GuidOption = False,
    server: options.ServerOption = None,
) -> None:
    """Remove pins. Files that the node's cache reports stay in the catalog."""
    names = lfns or []
    if everything == bool(names):
        raise usage_error(
            "EMPTY_FILE_LIST" if not everything else "INVALID_OPTION",
            "name the files to unpin, or --all, and not both",
            remedies=[f"list the pinned files: pandawn cache list {node} --pinned"],
        )
    removed = left = 0
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        requests = [
            pins.UnpinFilesRequest(site=where, node=node, files=pins.PinnedFiles(files=batch))
            for batch in batches(file_refs(names, scope, guid=guid), FILES_A_CALL)
        ]
        everything_pinned = pins.UnpinFilesRequest(site=where, node=node, all=pins.AllPins())
        for request in requests or [everything_pinned]:
            reply = client.call(client.catalog.UnpinFiles, request)
            removed += reply.removed_count
            left = reply.pinned_count
    gone = f"{format_count(removed, 'file')} no longer pinned on {node} at {where}"
    print_lines([f"{gone}; {left:,} still pinned"])
    if removed < len(names):
        note(f"The other files were not pinned: pandawn cache list {node} --pinned")


def list_pins(
    ctx: typer.Context,
    site: Annotated[
        str,
        typer.Option("--site", metavar="SITE", help="Only nodes of this site.", show_default=False),
    ] = "",
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List nodes with pinned files; `pandawn cache list NODE --pinned` lists the files."""
    with options.connect(ctx, server) as client:
        rows, more = client.pages(
            lambda token, size: client.call(
                client.catalog.ListPins,
                pins.ListPinsRequest(site=site, page_token=token, page_size=size),
            ),
            lambda page: page.pins,
            limit=options.limit_or_none(limit, everything),
        )
    if json_output:
        print_messages(rows)
        return
    print_table(
        (
            Column("NODE", fold=True),
            Column("SITE", fold=True),
            Column("FILES", "right"),
            Column("SIZE", "right"),
            Column("CHANGED"),
            Column("", optional=True),
        ),
        (
            [
                row.node,
                row.site,
                row.file_count,
                format_size(row.total_bytes),
                format_time(row.update_time),
                "" if row.believed else "ignored: node is silent",
            ]
            for row in rows
        ),
        empty="No files are pinned.",
    )
    if more:
        note(f"Only the first {len(rows)} are shown. --limit N or --all shows more.")


def _known_cache(client: Client, site: str, node: str) -> filecatalog.Cache | None:
    request = filecatalog.GetCacheRequest(site=site, node=node)
    try:
        return client.call(client.catalog.GetCache, request).cache
    except CliError as error:
        if error.reason != "NODE_NOT_FOUND":
            raise
        return None


def _pin(
    client: Client, site: str, node: str, listed: Sequence[ListedFile]
) -> tuple[int, pins.PinFilesResponse]:
    """Pins files; returns how many are newly pinned, and the last reply."""
    replies: list[pins.PinFilesResponse] = []

    def send(files: Sequence[types.File]) -> None:
        request = pins.PinFilesRequest(site=site, node=node, files=files)
        replies.append(client.call(client.catalog.PinFiles, request))

    _send(listed, send, "pinned")
    return sum(reply.new_count for reply in replies), replies[-1]


def _send(
    listed: Sequence[ListedFile], send: Callable[[Sequence[types.File]], object], done: str
) -> None:
    """Sends files in batches. A refusal names lines of the list."""
    sent = 0
    for batch in batches(listed, FILES_A_CALL):
        try:
            send([one.file for one in batch])
        except CliError as error:
            raise with_lines(
                error, batch, sent, lambda count: f"the first {count:,} files were {done}"
            ) from error
        sent += len(batch)
