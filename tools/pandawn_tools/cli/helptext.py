"""The help of a command as plain text: usage, what it does, arguments, options and commands by panel.

Typer's own help goes through rich's Markdown and syntax highlighting, which take longer to import than
most commands take to run. This one prints without boxes, so that lines are longer and can be copied.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from typing import Any, Protocol

import typer
from typer.core import TyperCommand, TyperGroup

MAX_WIDTH = 120
"""Columns of the help on a wide terminal: longer lines are hard to read."""

# Options of up to this many columns have their help on the same line.
_NAME_WIDTH = 28
_INDENT = "  "
_ARGUMENTS = "Arguments"
_OPTIONS = "Options"
_COMMANDS = "Commands"


class Formatter(Protocol):
    """What is used of typer's formatter."""

    width: int
    current_indent: int

    def write(self, string: str) -> None:
        """Append text."""

    def write_dl(self, rows: list[tuple[str, str]], col_max: int = ...) -> None:
        """Append names and their explanations, in two columns."""


def write_help(
    command: TyperCommand | TyperGroup,
    ctx: typer.Context,
    formatter: Any,  # noqa: ANN401 (of a vendored module of typer's)
) -> None:
    """Writes the whole help of `command`."""
    command.format_usage(ctx, formatter)
    _write_text(formatter, command.help or "")
    for panel, rows in _parameters(command, ctx).items():
        _write_panel(formatter, panel, rows)
    if isinstance(command, TyperGroup):
        for panel, rows in _commands(command, ctx).items():
            _write_panel(formatter, panel, rows)
    _write_text(formatter, command.epilog or "", indent="")


def first_paragraph(text: str | None) -> str:
    """Returns the first paragraph of a help text, on one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


def _parameters(
    command: TyperCommand | TyperGroup, ctx: typer.Context
) -> dict[str, list[tuple[str, str]]]:
    """Rows by panel: arguments first, then options, then the panels that options name."""
    panels: dict[str, list[tuple[str, str]]] = {_ARGUMENTS: [], _OPTIONS: []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        default = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
        panel = getattr(parameter, "rich_help_panel", None) or default
        panels.setdefault(panel, []).append(record)
    return panels


def _commands(group: TyperGroup, ctx: typer.Context) -> dict[str, list[tuple[str, str]]]:
    panels: dict[str, list[tuple[str, str]]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or command.hidden:
            continue
        panel = getattr(command, "rich_help_panel", None) or _COMMANDS
        panels.setdefault(panel, []).append((name, first_paragraph(command.help)))
    return panels


def _write_panel(formatter: Formatter, title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    heading = title if "NO_COLOR" in os.environ else typer.style(title, bold=True)
    formatter.write(f"\n{heading}:\n")
    formatter.current_indent += len(_INDENT)
    formatter.write_dl(rows, col_max=_NAME_WIDTH)
    formatter.current_indent -= len(_INDENT)


def _write_text(formatter: Formatter, text: str, indent: str = _INDENT) -> None:
    """Wraps each paragraph to the terminal; one that is indented is an example, and keeps its lines."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph:
            continue
        formatter.write("\n")
        if paragraph.startswith(" "):
            lines = [indent + line for line in paragraph.splitlines()]
        else:
            lines = textwrap.wrap(
                " ".join(paragraph.split()),
                formatter.width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        formatter.write("\n".join(lines) + "\n")
