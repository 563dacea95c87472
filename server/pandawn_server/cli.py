"""The command `pandawn-server`: serve, migrate, check-config, retention, and the session commands.

Exit status: 0 success, 1 failure, 2 wrong usage or configuration, 3 refused (the database must be migrated or
created first), 4 a database or catalog cannot be reached, 141 nobody reads the output.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from pandawn_server.config import Loaded, Settings, masked
from pandawn_server.domain.errors import PandawnError
from pandawn_server.flags import Exit, shown_value, status_of, with_settings

app = typer.Typer(
    help="The Pandawn server.",
    no_args_is_help=True,
    # An operator's program: completion would be installed for the caller's shell, usually root's.
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    # A traceback with the values of all variables would print passwords.
    pretty_exceptions_enable=False,
    # The boxes of rich leave too little room for the descriptions of settings.
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pandawn-server {version('pandawn')}")
        raise typer.Exit


@app.callback()
def root(
    version_: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """The Pandawn server."""
    del version_


def main() -> None:
    """Entry point."""
    # gRPC's own lines on standard error are not structured, and add nothing to our log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app()


@app.command("serve")
@with_settings
def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or Ctrl-C. Without any option: on SQLite, in memory, on loopback."""
    from pandawn_server.main import serve as run_server

    run_server(loaded.settings)


@app.command("migrate")
@with_settings
def migrate(loaded: Loaded) -> None:
    """Bring the database to this server's version. Creates an embedded one if there is none."""
    from pandawn_server.storage.database import Database

    database = Database.open(loaded.settings.database_url, pool_size=1)
    database.migrate()
    database.check()
    database.dispose()
    typer.echo(f"{database.shown_url}: the schema is up to date")


@app.command("rotate-session-key")
@with_settings
def rotate_session_key(loaded: Loaded) -> None:
    """Make a new key for session tokens. Servers use it after a minute, and sessions continue."""
    _rotate(loaded, end_sessions=False)


@app.command("end-sessions")
@with_settings
def end_sessions(loaded: Loaded) -> None:
    """End all sessions of pilots, with a new key: use it when a token or the key has leaked.

    Pilots register again with their credentials and keep their jobs.
    """
    _rotate(loaded, end_sessions=True)


def _rotate(loaded: Loaded, *, end_sessions: bool) -> None:
    from pandawn_server.backends import open_standing_database
    from pandawn_server.usecases.access.sessions import rotate_key

    database = open_standing_database(loaded.settings)
    try:
        key = rotate_key(
            database, random.SystemRandom(), database.clock(), end_sessions=end_sessions
        )
    finally:
        database.dispose()
    typer.echo(f"session key {key.key_id} signs from {key.use_time:%Y-%m-%d %H:%M:%S} UTC on")


@app.command("after-restore")
@with_settings
def after_restore(
    loaded: Loaded,
    *,
    skip: Annotated[
        int,
        typer.Option(min=1, help="Numbers to skip: more than were given since the copy was made."),
    ] = 1_000_000,
) -> None:
    """Run this after restoring an older copy of the database, before any server starts: no number is given twice.

    Tasks and jobs that the copy lacks have written outputs under their numbers. Also ends all sessions.
    """
    from pandawn_server.backends import open_checked_database
    from pandawn_server.usecases.restore import pass_over_lost_numbers

    database = open_checked_database(loaded.settings)
    try:
        last = pass_over_lost_numbers(database, random.SystemRandom(), database.clock(), count=skip)
    finally:
        database.dispose()
    for kind, number in last.items():
        typer.echo(f"the next {kind} has number {number + 1}")


@app.command("retention")
@with_settings
def retention(
    loaded: Loaded,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what is old enough to be deleted.")
    ] = False,
) -> None:
    """Delete what is old, by the ages in the settings; servers also do this in the background."""
    from pandawn_server.backends import open_standing_database
    from pandawn_server.usecases.retain import count_old, delete_some

    database, kept = open_standing_database(loaded.settings), loaded.settings.kept
    counts: dict[str, int] = {}
    try:
        if dry_run:
            counts.update(count_old(database, database.clock, kept))
        else:
            while delete_some(database, database.clock, kept, counts):
                pass
    finally:
        database.dispose()
    for kind, count in counts.items():
        what = "jobs of tasks" if kind == "tasks" and not dry_run else kind
        typer.echo(f"{count:>9,} {what} {'would be' if dry_run else 'were'} deleted")


@app.command("check-config")
@with_settings
def check_config(loaded: Loaded) -> None:
    """Show each setting and its origin; try the files of addresses, database and catalog. Changes nothing."""
    from pandawn_server.backends import (
        NO_DATABASE,
        open_reachable_catalog,
        open_standing_database,
    )
    from pandawn_server.wire.auth.doors import check_doors
    from pandawn_server.wire.edge.listening import StartError

    settings = loaded.settings
    typer.echo(f"configuration file: {loaded.file or 'none'}")
    shown = {name: shown_value(getattr(settings, name)) for name in Settings.model_fields}
    shown["database"] = masked(settings.database_url)
    widths = (max(map(len, shown)), max(map(len, shown.values())))
    for name, value in shown.items():
        typer.echo(f"  {name:{widths[0]}}  {value:{widths[1]}}  {loaded.origins[name]}")
    for listener in settings.listeners:
        typer.echo(f"at {listener.address}: {listener.described()}")
    failed = Exit.OK
    try:
        check_doors(settings)
    except StartError as error:
        typer.echo(f"addresses: {error}")
        failed = Exit.FAILED
    else:
        typer.echo("addresses: ok")
    attempts: tuple[tuple[str, Callable[[Settings], None]], ...] = (
        ("database", lambda settings: open_standing_database(settings).dispose()),
        ("catalog", lambda settings: open_reachable_catalog(settings).close()),
    )
    for name, attempt in attempts:
        try:
            attempt(settings)
        except PandawnError as error:
            if error.reason == NO_DATABASE:
                typer.echo(f"{name}: ok\n  {error.message}")
                continue
            typer.echo(f"{name}: {error.reason}: {error.detail or error.message}")
            failed = max(failed, status_of(error))
        else:
            typer.echo(f"{name}: ok")
    raise typer.Exit(failed)
