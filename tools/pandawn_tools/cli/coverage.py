"""`pandawn cache coverage`: how much of a task's inputs, or of a list of files, the nodes of a site have."""

from typing import Annotated

import typer

from pandawn.common.v1 import common_pb2 as types
from pandawn.filecatalog.v1 import coverage_pb2 as coverage
from pandawn_tools.cli import options
from pandawn_tools.cli.cachenames import ScopeOption
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.filelist import read_file_list
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import Column, print_table
from pandawn_tools.cli.units import format_count, format_share, format_size

_DEFAULT_NODES = 20


def cover(
    ctx: typer.Context,
    lfns: Annotated[
        list[str] | None, typer.Argument(metavar="LFN", help="Logical file names.")
    ] = None,
    file_list: Annotated[
        str | None,
        typer.Option(
            "--list",
            "-l",
            metavar="FILE",
            help="File with LFN [SIZE [SCOPE [GUID [VERSION]]]] on each line; - is standard input.",
        ),
    ] = None,
    task: options.TaskFilter = None,
    site: Annotated[
        str,
        typer.Option(
            "--site",
            metavar="SITE",
            help="Site whose nodes are counted. Default with --task: the task's site.",
            show_default=False,
        ),
    ] = "",
    scope: ScopeOption = "",
    nodes: Annotated[
        int,
        typer.Option(
            "--nodes", metavar="N", callback=options.positive_int32, help="Show at most N nodes."
        ),
    ] = _DEFAULT_NODES,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show how many files are on how many nodes, how much each node has, and what no node has."""
    listed = read_file_list(file_list, scope, with_sizes=False) if file_list else []
    files = [one.file for one in listed]
    files += (types.File(lfn=lfn, scope=scope) for lfn in lfns or ())
    if bool(task) == bool(files):
        raise usage_error(
            "EMPTY_FILE_LIST" if not task else "INVALID_OPTION",
            "name files, or a task with --task, and not both",
            remedies=["for many files: --list FILE"],
        )
    if not site and not task:
        raise usage_error("SITE_UNCLEAR", "a site is needed", remedies=["add --site SITE"])
    request = coverage.GetCoverageRequest(site=site, max_nodes=nodes)
    if task:
        request.task_id = task
    else:
        request.files.files.extend(files)
    with options.connect(ctx, server) as client:
        found = client.call(client.catalog.GetCoverage, request)
    if json_output:
        print_json(message_json(found))
    else:
        _print(found)


def _print(found: coverage.GetCoverageResponse) -> None:
    total = f"{format_count(found.file_count, 'file')}, {format_size(found.total_bytes)}"
    print_lines([f"{total}, at {found.site}"])
    print_table(
        (Column("ON"), Column("FILES", "right"), Column("SIZE", "right"), Column("SHARE", "right")),
        (
            [
                format_count(row.node_count, "node") if row.node_count else "no node",
                row.file_count,
                format_size(row.total_bytes),
                _share(row.file_count, row.total_bytes, found),
            ]
            for row in found.copies
        ),
        empty="There are no input files.",
    )
    if found.file_count:
        print_lines([""])
        print_table(
            (
                Column("NODE", fold=True),
                Column("FILES", "right"),
                Column("SIZE", "right"),
                Column("SHARE", "right"),
            ),
            (
                [
                    row.node,
                    row.file_count,
                    format_size(row.total_bytes),
                    _share(row.file_count, row.total_bytes, found),
                ]
                for row in found.nodes
            ),
            empty=f"No node at {found.site} has any of them.",
        )
    if found.node_count > len(found.nodes):
        note(
            f"Only {len(found.nodes)} of {found.node_count} nodes are shown. --nodes N shows more."
        )


def _share(files: int, size_bytes: int, of: coverage.GetCoverageResponse) -> str:
    """Returns the share in bytes, or in files if no sizes are known."""
    if of.total_bytes:
        return format_share(size_bytes, of.total_bytes)
    return format_share(files, of.file_count)
