"""Commands whose help and errors speak of what one types, and not of the types of a program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

Parameter = TypeVar("Parameter", bound=object)
Function = TypeVar("Function", bound=Callable[..., object])

# What an empty text says here is what leaving it out says. Everywhere else it is a variable of a script that
# was not set, and would be a filter that takes everything, or the current directory.
_MAY_BE_EMPTY = frozenset({"--message", "--scope"})
_KINDS = {
    "int_parsing": "is no whole number",
    "int_parsing_size": "is larger than any number here can be",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
}


class PlainCommand(TyperCommand):
    """A command of `pandawn`."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Returns what can be given to it."""
        return [_without_type(parameter) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Reads the words of the command, and refuses what is empty or not what it should be."""
        _refuse_empty(self, ctx, args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            raise _in_words(error) from error

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override] # noqa: ANN401
        """Writes the help."""
        self.help = _flowing(self.help)
        super().format_help(ctx, formatter)


class PlainGroup(TyperGroup):
    """A command of `pandawn` that has others below it."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Returns what can be given to it."""
        return [_without_type(parameter) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Reads the words before the command, and refuses what is empty or not what it should be."""
        if args:
            _refuse_empty(self, ctx, args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            raise _in_words(error) from error

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override] # noqa: ANN401
        """Writes the help."""
        self.help = _flowing(self.help)
        super().format_help(ctx, formatter)


class PlainApp(typer.Typer):
    """A group of such commands."""

    def __init__(self, **named: Any) -> None:  # noqa: ANN401 (typer's own, handed on)
        super().__init__(cls=PlainGroup, **named)

    def command(
        self,
        name: str | None = None,
        **named: Any,  # noqa: ANN401 (likewise)
    ) -> Callable[[Function], Function]:
        """Registers a command, as typer does."""
        return super().command(name, **({"cls": PlainCommand} | named))


def _without_type(parameter: Parameter) -> Parameter:
    """Leaves out `<bool>` behind a flag, which takes no value, and `<list[str]>` behind an argument with a name."""
    if isinstance(parameter, TyperArgument) and parameter.metavar is not None:
        # The class is typer's own choice, so it is this one object that changes.
        setattr(parameter, "display_type_rich", _no_type)  # noqa: B010
    elif isinstance(parameter, TyperOption) and parameter.is_flag and parameter.metavar is None:
        parameter.metavar = ""
    return parameter


def _no_type(ctx: typer.Context) -> str:
    del ctx
    return ""


def _flowing(text: str | None) -> str | None:
    """Joins the lines of each paragraph, which are those of a source file; examples, indented, stay."""
    if text is None:
        return None
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else " ".join(paragraph.split("\n"))
        for paragraph in paragraphs
    )


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


def _in_words(error: typer.BadParameter) -> typer.BadParameter:
    """Returns the error with the value in it, in place of a library's sentences about types."""
    causes = getattr(error.__cause__, "errors", None)
    if causes is None:
        return error
    cause = causes()[0]
    kind = _KINDS.get(cause["type"])
    if kind is not None:
        text = f"{cause['input']!r} {kind}"
    else:
        text = str(cause["msg"]).removeprefix("Value error, ").removesuffix(".")
        text = text.replace("Input should be", f"{cause['input']} is not")
    return typer.BadParameter(text, ctx=error.ctx, param=error.param)
