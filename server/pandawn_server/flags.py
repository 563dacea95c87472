"""Turns settings into command line flags, and errors into exit statuses."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal, NoReturn, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from pandawn_server.config import (
    CONFIG_VARIABLE,
    ConfigError,
    FlagValue,
    Settings,
    load_settings,
    masked,
    variable_of,
)
from pandawn_server.domain.errors import PandawnError, UnavailableError
from pandawn_server.logs import configure_logs

Command = Callable[..., None]
"""What a command does with its settings."""


_UNITS = frozenset({"SECONDS", "DAYS"})
_BAD_URLS = frozenset({"BAD_DATABASE_URL", "BAD_CATALOG_URL"})


class Exit(IntEnum):
    """Exit statuses, the same in all of the project's commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    BROKEN_PIPE = 141


def with_settings(command: Command) -> Callable[..., None]:
    """Gives a command one flag per setting, and the merged settings as its argument.

    The command's keyword-only parameters become flags of its own.
    """
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    def run(config: Path | None, **flags: FlagValue | None) -> None:
        more = {parameter.name: flags.pop(parameter.name) for parameter in own}
        given = {name: value for name, value in flags.items() if value not in (None, [])}
        try:
            loaded = load_settings(given, config)
        except ConfigError as error:
            _end(Exit.USAGE, str(error))
        configure_logs(loaded.settings.log_level, loaded.settings.log_format)
        with _errors_as_exit():
            command(loaded, **more)

    help_text = f"Configuration file in TOML. [{CONFIG_VARIABLE}]"
    config = Annotated[Path | None, typer.Option("--config", help=help_text, dir_okay=False)]
    hints = {"config": config} | {
        name: _flag(name, field) for name, field in Settings.model_fields.items()
    }
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in hints.items()
    ]
    # typer reads the signature; writing out each flag for each command would repeat the list three times.
    run.__signature__ = inspect.Signature([*parameters, *own])  # type: ignore[attr-defined]
    run.__annotations__ = dict(hints) | {parameter.name: parameter.annotation for parameter in own}
    run.__doc__ = command.__doc__
    return run


def _flag(name: str, field: FieldInfo) -> object:
    """The flag of a setting. `Settings` validates values, in the same way for all sources."""
    flag = f"--{name.replace('_', '-')}"
    kind: object = str | None
    if field.annotation is bool:
        flag, kind = f"{flag}/--no-{flag[2:]}", bool | None
    elif get_origin(field.annotation) is tuple:
        kind = list[str] | None
    last = name.rpartition("_")[2].upper()
    metavar = None if kind == bool | None else last
    if field.annotation in {int, float} and last not in _UNITS:
        # `--max-connections-per-address` takes a number, not an address.
        metavar = "N"
    if get_origin(field.annotation) is Literal:
        metavar = "|".join(get_args(field.annotation))
    default = field.get_default(call_default_factory=True)
    shown = "" if default in ("", None, False, ()) else f"; default: {shown_value(default)}"
    text = f"{field.description}{shown}. [{variable_of(name)}]"
    return Annotated[kind, typer.Option(flag, help=text, metavar=metavar)]


def shown_value(value: object) -> str:
    """A setting as text, without passwords."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return masked(str(value))


def status_of(error: PandawnError) -> Exit:
    """The exit status for an error that ends a command."""
    if error.reason in _BAD_URLS:
        return Exit.USAGE
    return Exit.UNREACHABLE if isinstance(error, UnavailableError) else Exit.REFUSED


@contextmanager
def _errors_as_exit() -> Iterator[None]:
    """Turns errors that an operator can fix into a sentence and an exit status."""
    from pandawn_server.wire.edge.listening import StartError

    try:
        yield
    except PandawnError as error:
        _end(status_of(error), f"{error.detail or error.message} ({error.reason})")
    except StartError as error:
        _end(Exit.FAILED, str(error))
    except BrokenPipeError:
        # The reader has gone, as with `head`; the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.BROKEN_PIPE) from None
    except OSError as error:
        _end(Exit.FAILED, f"{error.filename or 'the system'}: {error.strerror or error}")


def _end(status: Exit, text: str) -> NoReturn:
    # One line per problem with the settings; libraries continue theirs on indented lines.
    for line in re.sub(r"\n\s+", " ", text).splitlines():
        typer.echo(f"pandawn-server: {line}", err=True)
    raise typer.Exit(status)
