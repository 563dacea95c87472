"""Converts values between the contract and the forms that people write: YAML, and `PARAMETER=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from google.protobuf.duration_pb2 import Duration

from pandawn_tools.queuefiles.exact import read_duration, read_size, write_duration, write_size
from pandawn_tools.queuefiles.parameters import Kind, Parameter, Value
from pandawn_tools.queuefiles.problems import BadValueError, shown, suggestion
from pandawn_tools.queuefiles.style import Written, inline, text_scalar
from pandawn_tools.queuefiles.yamltree import Entries, Items, Node, Scalar

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_REAL = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?", re.ASCII)
_NOTHING = frozenset({"", "~", "null"})


def from_node(parameter: Parameter, node: Node) -> Value:
    """Reads the value of a parameter from a file; does not check bounds.

    Raises:
        BadValueError: It is not a valid value; the text says what to write.
    """
    match parameter.kind:
        case Kind.LIST:
            if isinstance(node, Scalar) and not _is_nothing(node):
                raise BadValueError(f"it is a list; write [{text_scalar(node.text)}]")
            if not isinstance(node, Items):
                raise BadValueError("it is a list; write [A, B], or [] for none")
            return tuple(_text(item, "an element") for item in node.items)
        case Kind.MAP:
            if not isinstance(node, Entries):
                raise BadValueError("it is a mapping; write {name: value}, or {} for none")
            return _mapping(node)
        case _:
            if not isinstance(node, Scalar):
                raise BadValueError(f"it is {parameter.kind.value}, not a list or mapping")
            if _is_nothing(node):
                raise BadValueError(
                    "it has no value; remove the line to leave it unset"
                    + (', or write "" for empty' if parameter.kind is Kind.TEXT else "")
                )
            return from_text(parameter, node.text)


def _is_nothing(node: Scalar) -> bool:
    return node.plain and node.text.lower() in _NOTHING


def _text(node: Node, what: str) -> str:
    if not isinstance(node, Scalar) or _is_nothing(node):
        raise BadValueError(f"{what} must be text; use quotes for an empty one")
    return node.text


def _mapping(node: Entries) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in node.entries:
        if key.text in found:
            raise BadValueError(f"{shown(key.text)} occurs twice")
        found[key.text] = _text(value, f"the value of {shown(key.text)}")
    return found


def from_text(parameter: Parameter, text: str) -> Value:
    """Reads a value from one text; lists as `a,b`, mappings as `a=1,b=2`.

    Raises:
        BadValueError: It is not a valid value for the parameter; the text says what to write.
    """
    match parameter.kind:
        case Kind.TEXT:
            return text
        case Kind.SWITCH:
            return read_switch(text)
        case Kind.NUMBER:
            if not _WHOLE.fullmatch(text):
                raise BadValueError(f"{shown(text)} is not a whole number")
            return int(text)
        case Kind.REAL:
            if not _REAL.fullmatch(text):
                raise BadValueError(f"{shown(text)} is not a number")
            return float(text)
        case Kind.SIZE:
            return _quoted(text, read_size)
        case Kind.SPAN:
            return _quoted(text, read_duration)
        case Kind.WORD:
            return read_word(parameter, text)
        case Kind.LIST:
            return tuple(part.strip() for part in text.split(",")) if text else ()
        case Kind.MAP:
            return _pairs(text)
        case _:
            assert_never(parameter.kind)


def _quoted(text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError as error:
        raise BadValueError(f"{shown(text)}: {error}") from error


def read_switch(text: str) -> bool:
    """Reads `true` or `false` in any case; raises `BadValueError` for anything else."""
    folded = text.strip().lower()
    if folded not in {"true", "false"}:
        raise BadValueError(f"{shown(text)} is neither true nor false")
    return folded == "true"


def read_word(parameter: Parameter, text: str) -> int:
    """Reads one of the parameter's words in any case; else raises a `BadValueError` that lists them."""
    word = text.strip().lower()
    if word not in parameter.words:
        raise BadValueError(
            f"{shown(text)} is none of {', '.join(parameter.words)}"
            + suggestion(word, parameter.words)
        )
    return parameter.words[word]


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise BadValueError(f"{shown(part)} is not a pair; write name=value,name=value")
        if name.strip() in found:
            raise BadValueError(f"{shown(name.strip())} occurs twice")
        found[name.strip()] = value.strip()
    return found


def written(parameter: Parameter, value: Value) -> Written:
    """Writes a value for YAML so that `from_node` reads the same value."""
    if isinstance(value, Mapping):
        return {text_scalar(key): text_scalar(value[key]) for key in sorted(value)}
    if isinstance(value, str):
        return text_scalar(value)
    if isinstance(value, Sequence):
        return [text_scalar(item) for item in value]
    return plain(parameter, value)


def plain(parameter: Parameter, value: Value) -> str:
    """Writes a value on one line for people: sizes and times with units, words as words."""
    match value:
        case Duration():
            return write_duration(value)
        case bool():
            return "true" if value else "false"
        case int() if parameter.kind is Kind.SIZE:
            return write_size(value)
        case int() if parameter.kind is Kind.WORD:
            by_number = {number: word for word, number in parameter.words.items()}
            # A newer server may have values that this program does not know.
            return by_number.get(value, f"#{value}")
        case int():
            return str(value)
        case float():
            return repr(value) if value % 1 else f"{value:.0f}"
        case _:
            return inline(written(parameter, value))
