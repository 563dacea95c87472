"""Arguments and options of `pandawn cache` that name nodes and files."""

from collections.abc import Iterator, Sequence
from typing import Annotated, TypeVar

import typer

from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.filelist import parse_file_version
from pandawn_tools.cli.nodes import list_nodes
from pandawn_tools.cli.render import note
from pandawn_tools.cli.units import format_count, parse_size

# Limits of the contract for one call.
FILES_A_CALL = 10_000
LOCATIONS_A_CALL = 1_000

Item = TypeVar("Item")

Node = Annotated[str, typer.Argument(metavar="NODE", help="Full host name of the node.")]
Lfns = Annotated[list[str], typer.Argument(metavar="LFN", help="Logical file names.")]
GuidOption = Annotated[bool, typer.Option("--guid", help="The arguments are GUIDs, not LFNs.")]
ScopeOption = Annotated[str, typer.Option("--scope", metavar="SCOPE", help="Scope of the LFNs.")]


def find_site(client: Client, node: str) -> str:
    """Returns the site of a node.

    Raises:
        CliError: No site or several sites have such a node; or the server refused or cannot be reached.
    """
    sites = sorted({n.site for n in list_nodes(client, "") if n.name == node.lower()})
    if len(sites) == 1:
        return sites[0]
    if not sites:
        raise CliError(
            ExitStatus.REFUSED,
            "NODE_NOT_FOUND",
            f"the server does not know a node {node}",
            remedies=["list the nodes: pandawn nodes", "or name the site with --site SITE"],
        )
    raise usage_error(
        "SITE_UNCLEAR",
        f"{len(sites)} sites have a node {node}",
        details=sites,
        remedies=["name the site with --site SITE"],
    )


def named_file(pair: str, scope: str) -> types.File:
    """Reads NAME=SIZE[,VERSION].

    Raises:
        CliError: It is not that.
    """
    name, equals, facts = pair.rpartition("=")
    if not equals:
        raise usage_error("INVALID_OPTION", f"--lfn {pair}: write it as NAME=SIZE[,VERSION]")
    size, _, version = facts.partition(",")
    try:
        return types.File(
            lfn=name,
            scope=scope,
            size_bytes=parse_size(size),
            version=parse_file_version(version),
        )
    except ValueError as error:
        raise usage_error("INVALID_OPTION", f"--lfn {pair}: {error}") from error


def note_unknown_versions(count: int) -> None:
    """Warns that files without a version do not count as local; `count` is how many there are."""
    if count:
        note(
            f"{format_count(count, 'file')} without a version (sha256: and the digest): listed and located, "
            "but never counted as local to a job."
        )


def file_refs(names: Sequence[str], scope: str, *, guid: bool) -> list[types.FileRef]:
    """Returns references to files by LFN, or by GUID."""
    if guid:
        return [types.FileRef(guid=name) for name in names]
    return [types.FileRef(lfn=name, scope=scope) for name in names]


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Splits a list into parts of at most `size`, one for each call."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
