"""`pandawn demo`: options of the demo in `pandawn_tools.demo`."""

from pathlib import Path
from typing import Annotated

import typer

from pandawn_tools.cli.errors import ExitStatus


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Directory for all files of the demo. Default: a new temporary one.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="Database of the server. Default: an SQLite file in the directory.",
        ),
    ] = None,
    catalog: Annotated[
        str,
        typer.Option(
            "--catalog",
            metavar="URL",
            help="Catalog of the server: memory: or memcached://HOST:PORT,...",
        ),
    ] = "memory:",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the server and the pilots running at the end.")
    ] = False,
    chaos: Annotated[
        str | None,
        typer.Option(
            "--chaos",
            metavar="WHAT",
            help="kill-server: kill the server with SIGKILL while jobs run, restart it, and check "
            "that no job was lost or ran twice.",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.")
    ] = False,
) -> None:
    """Run an analysis of real physics files on a server and three nodes on this machine.

    Starts a server and three pilots, submits two tasks over the same files, and shows which job ran
    where, how much was read from caches, and the Z peak. Needs no other software.
    """
    from pandawn_tools.demo.run import Settings, run

    finished = run(
        Settings(
            directory=directory,
            database=database,
            catalog=catalog,
            keep=keep,
            chaos=chaos,
            json_output=json_output,
        )
    )
    if not finished:
        raise typer.Exit(ExitStatus.WORK_FAILED)
