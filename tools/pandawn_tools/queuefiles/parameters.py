"""The parameters of a queue: names, groups, units and bounds from the contract, and their old names.

Nothing is repeated here: it reads the options of the fields of `QueueParameters`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration

from pandawn.queueconfig.v1 import parameter_options_pb2, parameters_pb2
from pandawn_tools.queuefiles.exact import write_duration, write_size
from pandawn_tools.queuefiles.oldnames import OLD_NAMES, OldName

Value = bool | int | float | str | Duration | Sequence[str] | Mapping[str, str]
"""Value of a parameter; a word of an enum is its number."""

# Both are limits of the contract.
MAX_TEXT_BYTES = 4000
MAX_ELEMENTS = 1000


class Kind(Enum):
    """Kind of a parameter's value."""

    TEXT = "text"
    SWITCH = "true or false"
    NUMBER = "a whole number"
    REAL = "a number"
    SIZE = "a size"
    SPAN = "a span of time"
    WORD = "a word"
    LIST = "a list"
    MAP = "a mapping"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `least` and `most` are in bytes, seconds, or what it counts; None: unbounded.

    `words` has the numbers of its words, if it is an enum.
    """

    name: str
    kind: Kind
    group: str
    unit: str
    least: int | None
    most: int | None
    default: str
    old_names: tuple[OldName, ...]
    words: Mapping[str, int]

    @property
    def is_limit(self) -> bool:
        """Whether it is a limit with a default, which 0 switches off."""
        return self.least == 0 and self.default not in {"", "0"}


@cache
def parameters() -> Mapping[str, Parameter]:
    """Returns all parameters by name, ordered by group, and within a group as in the contract."""
    found = [p for p in map(_parameter, _fields()) if p is not None]
    order = list(parameter_options_pb2.ParameterGroup.DESCRIPTOR.values_by_name)
    ranks = {_group_word(name): rank for rank, name in enumerate(order)}
    return {p.name: p for p in sorted(found, key=lambda p: ranks[p.group])}


@cache
def old_names() -> Mapping[str, Sequence[tuple[Parameter, OldName]]]:
    """Returns the parameters of each old name; some old names mean two parameters."""
    found: dict[str, list[tuple[Parameter, OldName]]] = {}
    for parameter in parameters().values():
        for old in parameter.old_names:
            found.setdefault(old.name, []).append((parameter, old))
    return found


def value_of(queue: parameters_pb2.QueueParameters, parameter: Parameter) -> Value | None:
    """Returns the value in the message; None if it is unset."""
    if not queue.HasField(parameter.name):  # type: ignore[arg-type]
        return None
    value = getattr(queue, parameter.name)
    if parameter.kind is Kind.LIST:
        return tuple(value.values)
    return dict(value.values) if parameter.kind is Kind.MAP else cast("Value", value)


def assign(queue: parameters_pb2.QueueParameters, parameter: Parameter, value: Value) -> None:
    """Sets the value in the message; a list or mapping may be empty.

    Raises:
        ValueError: The value is out of the parameter's bounds; the text has the bounds.
    """
    check(parameter, value)
    if parameter.kind is Kind.LIST and isinstance(value, Sequence):
        getattr(queue, parameter.name).CopyFrom(parameters_pb2.StringList(values=value))
    elif parameter.kind is Kind.MAP and isinstance(value, Mapping):
        getattr(queue, parameter.name).CopyFrom(parameters_pb2.StringMap(values=value))
    elif isinstance(value, Duration):
        getattr(queue, parameter.name).CopyFrom(value)
    else:
        setattr(queue, parameter.name, value)


def check(parameter: Parameter, value: Value) -> None:
    """Raises `ValueError` for a value that the contract does not allow; the text says why."""
    if isinstance(value, Duration):
        _check_bounds(parameter, value.seconds + value.nanos / 1e9)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        _check_elements([*value.keys(), *value.values()], len(value))
    elif isinstance(value, Sequence):
        _check_elements(value, len(value))
    elif parameter.kind in {Kind.NUMBER, Kind.REAL, Kind.SIZE}:
        _check_bounds(parameter, value)


def _check_bounds(parameter: Parameter, number: float) -> None:
    if not math.isfinite(number):
        raise ValueError("it is not a finite number")
    low, high = parameter.least, parameter.most
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"it is out of bounds; {bounds_text(parameter)}")


def bounds_text(parameter: Parameter) -> str:
    """Returns the bounds as text: `from 5 s to 1 d`; empty if there are none."""
    low, high = (_measure(parameter, n) for n in (parameter.least, parameter.most))
    if low and high:
        return f"from {low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else ""


def _measure(parameter: Parameter, number: int | None) -> str:
    if number is None:
        return ""
    if parameter.kind is Kind.SIZE:
        return write_size(number)
    if parameter.kind is Kind.SPAN:
        return write_duration(Duration(seconds=number))
    return f"{number:,}"


def _check_elements(texts: Sequence[str], count: int) -> None:
    if count > MAX_ELEMENTS:
        raise ValueError(f"it has {count:,} elements; the limit is {MAX_ELEMENTS:,}")
    for text in texts:
        _check_text(text)


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a character (a lone surrogate)") from error
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"it is {size:,} bytes; the limit is {MAX_TEXT_BYTES:,}")
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in text):
        raise ValueError("it has control characters (line ends are control characters, too)")


def _fields() -> Iterator[FieldDescriptor]:
    yield from parameters_pb2.QueueParameters.DESCRIPTOR.fields


def _parameter(field: FieldDescriptor) -> Parameter | None:
    options = field.GetOptions()
    if not options.HasExtension(parameter_options_pb2.parameter):
        return None
    said = options.Extensions[parameter_options_pb2.parameter]
    return Parameter(
        name=field.name,
        kind=_kind(field, said.unit),
        group=_group_word(parameter_options_pb2.ParameterGroup.Name(said.group)),
        unit=said.unit,
        least=said.min if said.HasField("min") else None,
        most=said.max if said.HasField("max") else None,
        default=said.default_value,
        old_names=OLD_NAMES.get(field.name, ()),
        words={} if field.enum_type is None else _words(field.enum_type),
    )


_MESSAGES = {
    "google.protobuf.Duration": Kind.SPAN,
    "pandawn.queueconfig.v1.StringList": Kind.LIST,
    "pandawn.queueconfig.v1.StringMap": Kind.MAP,
}
_SCALARS = {
    FieldDescriptor.CPPTYPE_BOOL: Kind.SWITCH,
    FieldDescriptor.CPPTYPE_STRING: Kind.TEXT,
    FieldDescriptor.CPPTYPE_ENUM: Kind.WORD,
    FieldDescriptor.CPPTYPE_DOUBLE: Kind.REAL,
    FieldDescriptor.CPPTYPE_INT32: Kind.NUMBER,
    FieldDescriptor.CPPTYPE_INT64: Kind.NUMBER,
}


def _kind(field: FieldDescriptor, unit: str) -> Kind:
    if field.message_type is not None:
        return _MESSAGES[field.message_type.full_name]
    return Kind.SIZE if unit == "bytes" else _SCALARS[field.cpp_type]


def _words(enum: EnumDescriptor) -> dict[str, int]:
    """Returns the words of an enum, without the common prefix of their names."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return {
        value.name.removeprefix(prefix).lower().replace("_", "-"): value.number
        for value in enum.values
        if value.number != 0
    }


def _group_word(name: str) -> str:
    return name.removeprefix("PARAMETER_GROUP_").lower()
