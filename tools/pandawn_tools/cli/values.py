"""Values of arguments and options: what was typed becomes what a command takes, or an error in plain words.

Typer converts with pydantic, which takes longer to import than most commands take to run, and which
explains mistakes in the words of a program's types.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.core import TyperArgument, TyperOption

Parameter = TyperArgument | TyperOption
_Convert = Callable[[Any], object]


def use_plain_values(parameter: Parameter) -> None:
    """Makes `parameter` convert its values here. One of a type that is not known here stays as it is."""
    annotation: Any = parameter.type_descriptor.annotation
    is_list = get_origin(annotation) is list
    convert = _converter(get_args(annotation)[0] if is_list else annotation, parameter)
    if convert is not None:
        # Where typer keeps its own converter, once it has made it.
        setattr(parameter, "_runtime_param", _PlainValue(convert))  # noqa: B010


class _PlainValue:
    """Converts the values of one parameter. Takes the place of a class of typer's."""

    def __init__(self, convert: _Convert) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Parameter, ctx: typer.Context) -> object:  # noqa: ANN401 (typer's)
        """Returns the value. Raises BadParameter for one that cannot be converted."""
        has_many = param.nargs == -1 or getattr(param, "multiple", False)
        if value is None:
            return () if has_many else None
        try:
            return [self._convert(each) for each in value] if has_many else self._convert(value)
        except ValueError as error:
            raise typer.BadParameter(
                str(error),
                ctx=ctx,
                param=param,
            ) from error


def _converter(kind: Any, parameter: Parameter) -> _Convert | None:  # noqa: ANN401 (a type)
    info = parameter.type_descriptor.parameter_info
    if kind is str or kind is bool:
        return str if kind is str else bool
    if kind is int:
        return lambda value: _in_range(_number(int, value, "whole number"), info.min, info.max)
    if kind is float:
        return lambda value: _in_range(_number(float, value, "number"), info.min, info.max)
    if kind is Path and not (info.exists or info.resolve_path or info.writable):
        return Path
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: _one_of(kind, value)
    return None


def _number(kind: Callable[[Any], float], value: object, what: str) -> float:
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a {what}") from error


def _in_range(value: float, least: float | None, most: float | None) -> float:
    # Written so that "nan", which is not less than anything, is refused.
    if least is not None and not value >= least:
        raise ValueError(f"{value} is less than {least}")
    if most is not None and not value <= most:
        raise ValueError(f"{value} is more than {most}")
    return value


def _one_of(kind: type[Enum], value: object) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        choices = ", ".join(repr(each.value) for each in kind)
        raise ValueError(f"{value!r} is not one of {choices}") from error
