"""`pandawn cache`: the catalog of what node caches hold, seen and corrected."""

from collections.abc import Iterator, Sequence
from typing import Annotated, TypeVar

import typer

from pandawn.filecatalog.v1 import filecatalog_pb2 as filecatalog
from pandawn.type.v1 import type_pb2 as types
from pandawn_tools.cli import inputs, options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.nodes import list_nodes
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import Column, print_table
from pandawn_tools.cli.units import format_count, format_size, parse_size

app = typer.Typer(
    help="See and correct the catalog of what node caches hold.", no_args_is_help=True
)

# Limits of the contract for one call.
_FILES_A_CALL = 10_000
_LOCATIONS_A_CALL = 1_000

Item = TypeVar("Item")

Node = Annotated[str, typer.Argument(metavar="NODE", help="Full name of the node.")]
Lfns = Annotated[list[str], typer.Argument(metavar="LFN", help="Logical file names.")]
GuidOption = Annotated[bool, typer.Option("--guid", help="The names are GUIDs.")]
ScopeOption = Annotated[
    str, typer.Option("--scope", metavar="SCOPE", help="Name space of the LFNs.")
]


@app.command("list")
def list_files(
    ctx: typer.Context,
    node: Node,
    site: options.SiteOption = None,
    limit: options.LimitOption = options.DEFAULT_LIMIT,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List the files that a node's cache holds, as far as the catalog knows."""
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        rows, more = client.pages(
            lambda token, size: client.call(
                client.catalog.ListNodeFiles,
                filecatalog.ListNodeFilesRequest(
                    site=where, node=node, page_token=token, page_size=size
                ),
            ),
            lambda page: page.files,
            limit=options.limit_or_none(limit, everything),
        )
        if json_output:
            print_messages(rows)
        else:
            request = filecatalog.GetCacheRequest(site=where, node=node)
            cache = client.call(client.catalog.GetCache, request).cache
            print_table(
                (
                    Column("LFN", fold=True),
                    Column("SCOPE", fold=True, optional=True),
                    Column("SIZE", "right"),
                ),
                ([file.lfn, file.scope, format_size(file.size_bytes)] for file in rows),
                empty="The catalog knows of no file in it.",
            )
            size = format_size(cache.total_bytes)
            note(f"{node} at {where}: {format_count(cache.file_count, 'file')}, {size}")
    if more:
        note(f"The first {len(rows)} are shown; --limit N or --all shows more.")


@app.command("locate")
def locate(
    ctx: typer.Context,
    lfns: Lfns,
    site: Annotated[
        str | None,
        typer.Option("--site", metavar="SITE", help="Site to look in. Default: all."),
    ] = None,
    scope: ScopeOption = "",
    guid: GuidOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Say which nodes hold files.

    With --json it prints a list with one object for each site and file.
    """
    refs = _refs(lfns, scope, guid=guid)
    found: list[tuple[str, filecatalog.FileLocation]] = []
    with options.connect(ctx, server) as client:
        sites = [site] if site else sorted({node.site for node in list_nodes(client, "")})
        for where in sites:
            for batch in _batches(refs, _LOCATIONS_A_CALL):
                request = filecatalog.LocateFilesRequest(site=where, files=batch)
                reply = client.call(client.catalog.LocateFiles, request)
                found += ((where, location) for location in reply.locations)
    if json_output:
        print_json([{"site": where} | message_json(location) for where, location in found])
        return
    print_table(
        (
            Column("FILE", fold=True),
            Column("SITE", fold=True),
            Column("SIZE", "right"),
            Column("NODES", fold=True),
        ),
        (
            [
                location.file.lfn or location.file.guid,
                where,
                format_size(location.size_bytes) if location.nodes else "-",
                ", ".join(location.nodes) or "none",
            ]
            for where, location in found
        ),
        empty="No node has been heard of.",
    )


@app.command("add")
def add(
    ctx: typer.Context,
    node: Node,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Files as they lie here, for name and size."),
    ] = None,
    input_lists: Annotated[
        list[str] | None,
        typer.Option("--inputs", "-i", metavar="LIST", help="List with one path a line."),
    ] = None,
    lfn: Annotated[
        list[str] | None,
        typer.Option(
            "--lfn", metavar="NAME=SIZE", help="A file that is not here. May be repeated."
        ),
    ] = None,
    site: options.SiteOption = None,
    scope: ScopeOption = "",
    server: options.ServerOption = None,
) -> None:
    """Tell the catalog of files that were placed on a node by other means."""
    names = [named for path in input_lists or () for named in inputs.read_list(path)]
    names += inputs.name_arguments(files or ())
    known = [
        types.File(lfn=file.lfn, scope=scope, size_bytes=file.size_bytes)
        for file in inputs.inspect(names, lfn_depth=1, checksum=False)
    ]
    known += [_named_file(pair, scope) for pair in lfn or ()]
    if not known:
        raise usage_error(
            "EMPTY_FILE_LIST",
            "there are no files to add",
            remedies=["name files, or a list with --inputs LIST, or --lfn NAME=SIZE"],
        )
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        for batch in _batches(known, _FILES_A_CALL):
            request = filecatalog.AddFilesRequest(site=where, node=node, files=batch)
            client.call(client.catalog.AddFiles, request)
    size = format_size(sum(file.size_bytes for file in known))
    print_lines(
        [f"{format_count(len(known), 'file')}, {size}, added to the catalog for {node} at {where}"]
    )


@app.command("delete")
def delete(
    ctx: typer.Context,
    node: Node,
    lfns: Lfns,
    site: options.SiteOption = None,
    scope: ScopeOption = "",
    guid: GuidOption = False,
    server: options.ServerOption = None,
) -> None:
    """Tell the catalog that a node no longer holds files. The files themselves stay."""
    deleted = 0
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        for batch in _batches(_refs(lfns, scope, guid=guid), _FILES_A_CALL):
            request = filecatalog.DeleteFilesRequest(site=where, node=node, files=batch)
            deleted += client.call(client.catalog.DeleteFiles, request).deleted_count
    print_lines(
        [
            f"{deleted} of {format_count(len(lfns), 'file')} deleted from the catalog for {node} at {where}"
        ]
    )
    if deleted < len(lfns):
        note(f"The catalog did not have the others: pandawn cache list {node}")


@app.command("flush")
def flush(
    ctx: typer.Context,
    node: Node,
    site: options.SiteOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Forget all that the catalog knows of a node's cache. A live cache then tells it anew."""
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        request = filecatalog.FlushCacheRequest(site=where, node=node)
        reply = client.call(client.catalog.FlushCache, request)
    if json_output:
        print_json(message_json(reply))
    else:
        print_lines(
            [f"{format_count(reply.forgotten_count, 'file')} of {node} at {where} forgotten"]
        )


def find_site(client: Client, node: str) -> str:
    """Returns the site of a node that only one site has.

    Raises:
        CliError: No site or several have it; or the server refused or cannot be reached.
    """
    sites = sorted({n.site for n in list_nodes(client, "") if n.node == node.lower()})
    if len(sites) == 1:
        return sites[0]
    if not sites:
        raise CliError(
            ExitStatus.REFUSED,
            "NODE_NOT_FOUND",
            f"no node {node} has ever been in contact",
            remedies=["see which have: pandawn nodes", "or name its site with --site SITE"],
        )
    raise usage_error(
        "SITE_UNCLEAR",
        f"{len(sites)} sites have a node {node}",
        details=sites,
        remedies=["name the site with --site SITE"],
    )


def _named_file(pair: str, scope: str) -> types.File:
    name, equals, size = pair.rpartition("=")
    if not equals:
        raise usage_error("INVALID_OPTION", f"--lfn {pair}: write it as NAME=SIZE")
    try:
        return types.File(lfn=name, scope=scope, size_bytes=parse_size(size))
    except ValueError as error:
        raise usage_error("INVALID_OPTION", f"--lfn {pair}: {error}") from error


def _refs(names: Sequence[str], scope: str, *, guid: bool) -> list[types.FileRef]:
    if guid:
        return [types.FileRef(guid=name) for name in names]
    return [types.FileRef(lfn=name, scope=scope) for name in names]


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
