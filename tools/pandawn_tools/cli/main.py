"""The `pandawn` command: all commands in one place, and the last word on every error."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from pandawn_tools.cli import (
    access,
    audit,
    bench,
    cache,
    completion,
    control,
    demo,
    events,
    job,
    jobs,
    login,
    nodes,
    options,
    queues,
    simulate,
    simulate_faults,
    submit,
    tasks,
)
from pandawn_tools.cli.credentials import Given
from pandawn_tools.cli.errors import EXIT_STATUS_HELP, CliError, ExitStatus, report
from pandawn_tools.cli.plain import PlainApp

# For whoever mends `pandawn` itself.
_DEBUG_VARIABLE = "PANDAWN_DEBUG"

app = PlainApp(
    name="pandawn",
    no_args_is_help=True,
    # `pandawn completion` instead.
    add_completion=False,
    rich_markup_mode="rich",
    # The last word is `main`'s, and it is never a traceback.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_STATUS_HELP,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pandawn {version('pandawn')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    server: options.ServerOption = None,
    ca: options.CaOption = None,
    cert: options.CertOption = None,
    key: options.KeyOption = None,
    token_file: options.TokenFileOption = None,
    tls: options.TlsOption = None,
    version_: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Submit analyses to the worker nodes that already hold their input files.

    The server is taken from --server, else from $PANDAWN_SERVER, else from `server = "HOST:PORT"`
    in ~/.config/pandawn/config.toml, else it is 127.0.0.1:25443.
    """
    del version_
    ctx.obj = options.Chosen(server, Given(ca, cert, key, token_file, tls))


_WORK = "Work"
_LOOK = "Look"
_OPERATE = "Operate"
_ACCOUNT = "Who you are"

app.command(cls=submit.SplitCommand, help=submit.HELP, rich_help_panel=_WORK)(submit.submit)
app.command(rich_help_panel=_WORK)(tasks.wait)
app.command(rich_help_panel=_WORK)(control.kill)
app.command(rich_help_panel=_WORK)(control.retry)
app.command(rich_help_panel=_ACCOUNT)(login.login)
app.command(rich_help_panel=_ACCOUNT)(login.logout)
app.command(rich_help_panel=_ACCOUNT)(login.whoami)
app.command(rich_help_panel=_ACCOUNT)(completion.completion)
app.command(rich_help_panel=_LOOK)(tasks.tasks)
app.command(rich_help_panel=_LOOK)(jobs.jobs)
app.command(rich_help_panel=_LOOK)(job.job)
app.command(rich_help_panel=_LOOK)(job.why)
app.command(rich_help_panel=_LOOK)(events.events)
app.add_typer(nodes.app, name="nodes", rich_help_panel=_LOOK)
app.command(rich_help_panel=_LOOK)(nodes.pilots)
app.add_typer(queues.app, name="queues", rich_help_panel=_OPERATE)
app.add_typer(access.app, name="access", rich_help_panel=_OPERATE)
app.add_typer(cache.app, name="cache", rich_help_panel=_OPERATE)
app.command(rich_help_panel=_OPERATE)(audit.audit)
app.command(rich_help_panel=_OPERATE)(demo.demo)
app.command(rich_help_panel=_OPERATE)(bench.bench)
app.command(rich_help_panel=_OPERATE)(simulate.simulate)
app.command("simulate-faults", rich_help_panel=_OPERATE)(simulate_faults.simulate_faults)


def main() -> None:
    """Runs the command line and ends the process with the documented status."""
    try:
        app()
    except CliError as error:
        report(error)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(ExitStatus.BROKEN_PIPE)
    except Exception as error:
        if os.environ.get(_DEBUG_VARIABLE):
            raise
        report(
            CliError(
                ExitStatus.BUG,
                "BUG",
                f"this should not have happened: {type(error).__name__}: {error}",
                remedies=[f"report it with what {_DEBUG_VARIABLE}=1 adds to the output"],
            )
        )
        sys.exit(ExitStatus.BUG)
