"""The commands of `pandawn` and their groups: imported when called, plain help, no empty values."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from pandawn_tools.cli.helptext import write_help
from pandawn_tools.cli.values import use_plain_values

Function = TypeVar("Function", bound=Callable[..., object])

# An empty text says here what leaving it out says. Everywhere else it comes from a variable of a script that
# was not set, and would be a filter that lets everything through, or the current directory.
_MAY_BE_EMPTY = frozenset({"--message", "--scope"})


class PlainCommand(TyperCommand):
    """A command of `pandawn`."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Returns its arguments and options."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Reads its arguments and options. Raises BadParameter for a value that is empty or wrong."""
        _refuse_empty(self, ctx, args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override] # noqa: ANN401
        """Writes the help."""
        write_help(self, ctx, formatter)


class LazyCommand(PlainCommand):
    """A command or group that is imported when it is called, or asked for its own help.

    `target` is `module:name`, where the name is that of a function or of a `PlainApp`. `help` is what
    the list of commands shows: the first paragraph of the command's own help.
    """

    def __init__(self, name: str, target: str, help: str, panel: str | None = None) -> None:  # noqa: A002 (typer's)
        super().__init__(name, help=help, short_help=help, rich_help_panel=panel)
        self.target = target

    def load(self) -> PlainCommand | PlainGroup:
        """Imports the command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            app = PlainApp()
            app.command(self.name)(found)
            found = app
        command: Any = typer.main.get_command(found)
        command.name = self.name
        return command  # type: ignore[no-any-return]

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **named: Any) -> Any:  # noqa: ANN401 (typer's, handed on)
        """Returns the context of the command itself, which is called with it."""
        return self.load().make_context(info_name, args, *rest, **named)


class PlainGroup(TyperGroup):
    """A command of `pandawn` that has others below it; those in `lazy` are imported when called."""

    lazy: ClassVar[Sequence[LazyCommand]] = ()

    def __init__(self, **named: Any) -> None:  # noqa: ANN401 (typer's, handed on)
        super().__init__(**named)
        for command in self.lazy:
            self.add_command(command)

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Returns its arguments and options."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Reads what stands before the command. Raises BadParameter for a value that is empty or wrong."""
        if args:
            _refuse_empty(self, ctx, args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override] # noqa: ANN401
        """Writes the help."""
        write_help(self, ctx, formatter)


def lazy_commands(
    package: str, panels: Mapping[str, Sequence[tuple[str, str, str]]]
) -> tuple[LazyCommand, ...]:
    """Returns commands by the panel that lists them; each is a name, `module:name` in `package`, and a help."""
    return tuple(
        LazyCommand(name, f"{package}.{target}", text, panel)
        for panel, rows in panels.items()
        for name, target, text in rows
    )


class PlainApp(typer.Typer):
    """A group of such commands, or a single one. `commands` are those that are imported when called."""

    def __init__(self, *, commands: Sequence[LazyCommand] = (), **named: Any) -> None:  # noqa: ANN401 (typer's, handed on)
        class Group(PlainGroup):
            lazy = commands

        super().__init__(cls=Group, add_completion=False, rich_markup_mode=None, **named)

    def command(
        self,
        name: str | None = None,
        **named: Any,  # noqa: ANN401 (likewise)
    ) -> Callable[[Function], Function]:
        """Registers a command, as typer does."""
        return super().command(name, **({"cls": PlainCommand} | named))


def _plain(parameter: Any) -> Any:  # noqa: ANN401 (typer's, of a vendored module)
    """Returns the parameter, which converts its values in plain words and is shown without its type."""
    if isinstance(parameter, TyperArgument) and parameter.metavar is not None:
        # `TASK`, not `TASK <list[int]>`. The class is typer's own choice, so it is this one object that changes.
        setattr(parameter, "display_type_rich", _no_type)  # noqa: B010
    use_plain_values(parameter)
    return parameter


def _no_type(ctx: typer.Context) -> str:
    del ctx
    return ""


def _refuse_empty(
    command: TyperCommand | TyperGroup, ctx: typer.Context, args: Sequence[str]
) -> None:
    """Raises BadParameter for a value that is empty, before it is made a path, where it would be `.`."""
    if ctx.resilient_parsing:
        return  # a shell completes: what is not typed yet is empty
    given, _, _ = command.make_parser(ctx).parse_args(args=list(args))
    for parameter in command.get_params(ctx):
        value = given.get(parameter.name)
        if "" not in (value if isinstance(value, list | tuple) else [value]):
            continue
        if not _MAY_BE_EMPTY.intersection(parameter.opts):
            raise typer.BadParameter(
                "it is empty; was a variable not set?",
                ctx=ctx,
                param=parameter,  # type: ignore[arg-type]
            )
