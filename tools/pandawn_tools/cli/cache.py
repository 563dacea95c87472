"""`pandawn cache`: shows and corrects the catalog of files in the caches of nodes."""

from typing import Annotated
from uuid import uuid4

import typer

from pandawn.common.v1 import common_pb2 as types
from pandawn.filecatalog.v1 import filecatalog_pb2 as filecatalog
from pandawn.filecatalog.v1 import lookup_pb2
from pandawn_tools.cli import coverage, options, populate
from pandawn_tools.cli.cachenames import (
    FILES_A_CALL,
    LOCATIONS_A_CALL,
    GuidOption,
    Lfns,
    Node,
    ScopeOption,
    batches,
    file_refs,
    find_site,
    named_file,
    note_unknown_versions,
)
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.nodes import list_nodes
from pandawn_tools.cli.plain import PlainApp
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import Column, print_table
from pandawn_tools.cli.units import format_count, format_size

app = PlainApp(
    help="Show and correct the catalog of files in the caches of nodes.", no_args_is_help=True
)


@app.command("list")
def list_files(
    ctx: typer.Context,
    node: Node,
    site: options.SiteOption = None,
    pinned: Annotated[
        bool, typer.Option("--pinned", help="Only files that are pinned on the node.")
    ] = False,
    limit: options.LimitOption = None,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List the files of a node, cached and pinned, that the catalog knows."""
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        rows, more = client.pages(
            lambda token, size: client.call(
                client.catalog.ListNodeFiles,
                lookup_pb2.ListNodeFilesRequest(
                    site=where, node=node, page_token=token, page_size=size, pinned_only=pinned
                ),
            ),
            lambda page: page.files,
            limit=options.limit_or_none(limit, everything),
        )
        if json_output:
            print_messages(row.file for row in rows)
        else:
            request = filecatalog.GetCacheRequest(site=where, node=node)
            cache = client.call(client.catalog.GetCache, request).cache
            print_table(
                (
                    Column("LFN", fold=True),
                    Column("SCOPE", fold=True, optional=True),
                    Column("SIZE", "right"),
                    Column("", optional=True),
                ),
                (
                    [
                        row.file.lfn,
                        row.file.scope,
                        format_size(row.file.size_bytes),
                        "pinned" if row.pinned else "",
                    ]
                    for row in rows
                ),
                empty="The catalog has no file of this node.",
            )
            size = format_size(cache.total_bytes)
            told = f"{node} at {where}: {format_count(cache.file_count, 'file')}, {size}"
            if cache.pinned_count:
                pinned_size = format_size(cache.pinned_bytes)
                told += f"; {format_count(cache.pinned_count, 'file')}, {pinned_size}, pinned"
            note(told)
    if more:
        note(f"Only the first {len(rows)} are shown. --limit N or --all shows more.")


@app.command("locate")
def locate(
    ctx: typer.Context,
    lfns: Lfns,
    site: Annotated[
        str | None,
        typer.Option("--site", metavar="SITE", help="Search only this site. Default: all sites."),
    ] = None,
    scope: ScopeOption = "",
    guid: GuidOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show which nodes have files.

    --json prints a list with one object for each site and file.
    """
    refs = file_refs(lfns, scope, guid=guid)
    found: list[tuple[str, lookup_pb2.FileLocation]] = []
    with options.connect(ctx, server) as client:
        sites = [site] if site else sorted({node.site for node in list_nodes(client, "")})
        for where in sites:
            for batch in batches(refs, LOCATIONS_A_CALL):
                request = lookup_pb2.LocateFilesRequest(site=where, files=batch)
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
                format_size(location.size_bytes) if location.node_count else "-",
                _nodes(location),
            ]
            for where, location in found
        ),
        empty="The server knows no node yet.",
    )


def _nodes(location: lookup_pb2.FileLocation) -> str:
    unnamed = location.node_count - len(location.nodes)
    return ", ".join([*location.nodes, *([f"{unnamed:,} more"] if unnamed else [])]) or "none"


app.command("coverage")(coverage.cover)


@app.command("add")
def add(
    ctx: typer.Context,
    node: Node,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Files on this machine, read for their names, sizes and checksums."
        ),
    ] = None,
    input_lists: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            "-i",
            metavar="LIST",
            help="File with one path per line; - is standard input. May be repeated.",
        ),
    ] = None,
    lfn: Annotated[
        list[str] | None,
        typer.Option(
            "--lfn",
            metavar="NAME=SIZE[,VERSION]",
            help="A file that is not on this machine, such as a.root=2GB. May be repeated.",
        ),
    ] = None,
    site: options.SiteOption = None,
    scope: ScopeOption = "",
    server: options.ServerOption = None,
) -> None:
    """Add files to the catalog that were copied to a node by other means."""
    # Here, because it brings the transports along, which no other command of this module uses.
    from pandawn_tools.cli import inputs
    from pandawn_tools.cli.checksums import Wish

    names = [named for path in input_lists or () for named in inputs.read_list(path)]
    names += inputs.name_arguments(files or ())
    known = [
        types.File(
            lfn=file.lfn,
            scope=scope,
            size_bytes=file.size_bytes,
            checksum=file.checksum,
            version=file.version,
        )
        for file in inputs.inspect(
            names,
            lfn_depth=1,
            checksum=Wish.AUTOMATIC,
            if_missing="name files that are not on this machine with --lfn NAME=SIZE[,VERSION]",
        )
    ]
    known += [named_file(pair, scope) for pair in lfn or ()]
    if not known:
        raise usage_error(
            "EMPTY_FILE_LIST",
            "there are no files to add",
            remedies=["name files, or a list with --inputs LIST, or --lfn NAME=SIZE[,VERSION]"],
        )
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        for batch in batches(known, FILES_A_CALL):
            request = filecatalog.AddFilesRequest(site=where, node=node, files=batch)
            client.call(client.catalog.AddFiles, request)
    note_unknown_versions(sum(not file.version for file in known))
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
    """Remove files of a node from the catalog. The files themselves are not deleted."""
    deleted = 0
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        for batch in batches(file_refs(lfns, scope, guid=guid), FILES_A_CALL):
            request = filecatalog.DeleteFilesRequest(site=where, node=node, files=batch)
            deleted += client.call(client.catalog.DeleteFiles, request).deleted_count
    print_lines(
        [
            f"{deleted} of {format_count(len(lfns), 'file')} deleted from the catalog for {node} at {where}"
        ]
    )
    if deleted < len(lfns):
        note(f"The others were not in the catalog: pandawn cache list {node}")


@app.command("flush")
def flush(
    ctx: typer.Context,
    node: Node,
    site: options.SiteOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Remove all files of a node's cache from the catalog. A live cache then reports them again."""
    with options.connect(ctx, server) as client:
        where = site or find_site(client, node)
        request = filecatalog.FlushCacheRequest(site=where, node=node, request_id=uuid4().hex)
        reply = client.call(client.catalog.FlushCache, request)
    if json_output:
        print_json(message_json(reply))
    else:
        print_lines(
            [
                f"{format_count(reply.forgotten_count, 'file')} of {node} at {where} removed from the catalog"
            ]
        )


app.command("populate")(populate.populate)
app.command("pin")(populate.pin_files)
app.command("unpin")(populate.unpin_files)
app.command("pins")(populate.list_pins)
