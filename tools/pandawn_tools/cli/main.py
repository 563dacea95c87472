"""The `pandawn` command: its options before the command, and how it ends on each kind of error."""

import os
import sys
from typing import Annotated

import typer

from pandawn_tools.cli import completion, options
from pandawn_tools.cli.commands import COMMANDS
from pandawn_tools.cli.errors import EXIT_STATUS_HELP, CliError, ExitStatus, report
from pandawn_tools.cli.helptext import MAX_WIDTH
from pandawn_tools.cli.plain import PlainApp

# Set by developers of `pandawn` who want the traceback.
_DEBUG_VARIABLE = "PANDAWN_DEBUG"

app = PlainApp(
    name="pandawn",
    commands=COMMANDS,
    no_args_is_help=True,
    # `main` reports errors, without a traceback.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH},
    epilog=EXIT_STATUS_HELP,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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
    """Run analyses on the worker nodes that already have their input files.

    The server is --server, else $PANDAWN_SERVER, else `server = "HOST:PORT"` in
    ~/.config/pandawn/config.toml, else 127.0.0.1:25443.
    """
    del version_
    ctx.obj = options.Chosen(server, ca, cert, key, token_file, tls)


def main() -> None:
    """Runs the command line and exits with the documented status."""
    if completion.VARIABLE in os.environ:
        completion.prepare()
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
                f"an error in pandawn itself: {type(error).__name__}: {error}",
                remedies=[
                    f"run the command again with {_DEBUG_VARIABLE}=1 and report the traceback"
                ],
            )
        )
        sys.exit(ExitStatus.BUG)
