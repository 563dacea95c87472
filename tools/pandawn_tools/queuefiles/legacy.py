"""Converts values of schedconfig, AGIS and CRIC.

Their forms are accepted: numbers as text, `FALSE` in any case, zero for "not set, do not check".
An unclear value is an error, never a guess.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from pandawn_tools.queuefiles.exact import read_duration, read_size
from pandawn_tools.queuefiles.oldnames import OldName
from pandawn_tools.queuefiles.parameters import Kind, Parameter, Value
from pandawn_tools.queuefiles.problems import BadValueError, shown
from pandawn_tools.queuefiles.values import plain, read_word

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

# PanDA's MB is a power of 1024.
_FACTORS = {"": 1, "MB": 1024**2, "GB": 1024**3, "s": 1, "min": 60, "h": 3600}
_YES = frozenset({"true", "yes", "y", "t", "1", "on"})
_NO = frozenset({"false", "no", "n", "f", "0", "off"})
# Old words and their current ones, by parameter.
_WORDS = {
    "status": {"obsolete": "offline"},
    "payload_isolation": {
        **dict.fromkeys(("uid", "true", "test"), "required"),
        **dict.fromkeys(("false",), "none"),
    },
}
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?", re.ASCII)
# The largest int64 of the contract.
_MOST = 2**63 - 1
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted value, None for "not set"; `note` describes the conversion, if there was one."""

    value: Value | None
    note: str = ""


def convert(parameter: Parameter, old: OldName, value: Json) -> Converted:
    """Converts the value of an old name.

    Raises:
        BadValueError: It cannot be converted; the text says why.
    """
    if value is None:
        return Converted(None, "null: not set")
    if isinstance(value, str) and not value.strip():
        return Converted(None, "empty: not set")
    match parameter.kind:
        case Kind.TEXT:
            return _text(old, value)
        case Kind.SWITCH:
            return _switch(value)
        case Kind.WORD:
            return _word(parameter, value)
        case Kind.LIST:
            return _list(value)
        case Kind.MAP:
            return _map(old, value)
        case _:
            return _number(parameter, old, value)


def kind_of(value: Json) -> str:
    """Returns JSON's name for the kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, Mapping) else "a list"


def _wanted(wanted: str, value: Json) -> BadValueError:
    return BadValueError(f"{kind_of(value)} instead of {wanted}")


def _text(old: OldName, value: Json) -> Converted:
    if not isinstance(value, str):
        raise _wanted("text", value)
    one_line = _CONTROLS.sub(" ", value).strip()
    if old.name == "allowedNode":
        return _host_pattern(one_line)
    note = "" if one_line == value.strip() else "line ends replaced by blanks"
    return Converted(one_line, note) if one_line else Converted(None, "empty: not set")


def _host_pattern(text: str) -> Converted:
    """Joins a list of patterns, each of which could match a part of the name, into one for the whole name."""
    patterns = [part.strip() for part in text.split(",") if part.strip()]
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise BadValueError(f"{shown(pattern)} is not a regular expression: {error}") from error
    joined = patterns[0] if len(patterns) == 1 else "|".join(f"(?:{p})" for p in patterns)
    return Converted(joined, "must now match the whole name, not a part of it")


def _switch(value: Json) -> Converted:
    if isinstance(value, bool):
        return Converted(value)
    folded = str(value).strip().lower() if isinstance(value, str | int) else ""
    if folded in _YES or folded in _NO:
        meant = folded in _YES
        return Converted(meant, f"{_shown_json(value)} -> {'true' if meant else 'false'}")
    if isinstance(value, str | int):
        raise BadValueError(f"{_shown_json(value)} is neither true nor false")
    raise _wanted("true or false", value)


def _word(parameter: Parameter, value: Json) -> Converted:
    if isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _wanted("a word", value)
    folded = value.strip().lower()
    today = _WORDS.get(parameter.name, {}).get(folded, folded)
    note = "" if today == value.strip() else f"{shown(value)} -> {today}"
    return Converted(read_word(parameter, today), note)


def _number(parameter: Parameter, old: OldName, value: Json) -> Converted:
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return _with_unit(parameter, text)
        number = float(text) if "." in text else int(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    else:
        raise _wanted("a number", value)
    if isinstance(number, float) and not math.isfinite(number):
        raise BadValueError(f"{number} is not a finite number")
    # Checked first: JSON has numbers that fit neither into 64 bits nor into a float.
    if not -_MOST <= number <= _MOST // _FACTORS[old.unit]:
        raise BadValueError(
            f"{_shortened(number)} {old.unit or parameter.unit} does not fit 64 bits"
        )
    if number < 0:
        raise BadValueError(f"{number} is below zero")
    if number == 0:
        # There 0 means "not set, do not check". If our default would check, it becomes "no limit".
        if parameter.is_limit:
            return Converted(_scaled(parameter, 0), "0: no limit")
        return Converted(None, "0: not set")
    scaled = number * _FACTORS[old.unit]
    if parameter.kind is not Kind.REAL and scaled != int(scaled):
        raise BadValueError(f"{number} {old.unit or parameter.unit} is not a whole number")
    made = _scaled(parameter, scaled)
    notes = [f"text {shown(value)} read as a number"] if isinstance(value, str) else []
    if old.unit:
        notes.append(f"{number} {old.unit} -> {plain(parameter, made)}")
    return Converted(made, "; ".join(notes))


def _shortened(number: float) -> str:
    digits = str(number)
    return digits if len(digits) <= 30 else f"{digits[:10]}... ({len(digits)} digits)"


def _with_unit(parameter: Parameter, text: str) -> Converted:
    """Reads a number with a unit, which only people write under an old name."""
    if parameter.kind is Kind.SIZE:
        return Converted(read_size(text))
    if parameter.kind is Kind.SPAN:
        return Converted(read_duration(text))
    raise BadValueError(f"{shown(text)} is not a number")


def _scaled(parameter: Parameter, number: float) -> Value:
    if parameter.kind is Kind.SPAN:
        if number > 10**11:
            raise BadValueError(f"{number} s is longer than three thousand years")
        return Duration(seconds=int(number))
    return float(number) if parameter.kind is Kind.REAL else int(number)


def _list(value: Json) -> Converted:
    if isinstance(value, str):
        parts = [part.strip() for part in re.split(r"[|,\s]+", value)]
        note = "text split into a list" if len(parts) > 1 else ""
        return Converted(tuple(dict.fromkeys(filter(None, parts))), note)
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise _wanted("a list", value)
    texts: list[str] = []
    for position, item in enumerate(value, start=1):
        if not isinstance(item, str):
            raise BadValueError(f"element {position} is {kind_of(item)} instead of text")
        if item.strip():
            texts.append(item.strip())
    unique = tuple(dict.fromkeys(texts))
    if not unique:
        return Converted(None, "empty: not set")
    dropped = len(value) - len(unique)
    return Converted(unique, f"{dropped} empty or repeated left out" if dropped else "")


def _map(old: OldName, value: Json) -> Converted:
    if isinstance(value, str):
        pairs = _prefixes(value) if old.name.startswith("copyprefix") else _pairs(old, value)
        return Converted(pairs, "text split into a mapping")
    if not isinstance(value, Mapping):
        raise _wanted("an object", value)
    found: dict[str, str] = {}
    for key, item in value.items():
        if old.name == "copytools" and isinstance(item, Mapping):
            item = item.get("setup", "")  # noqa: PLW2901 - of a tool only this is known here
        if isinstance(item, bool):
            found[key] = "true" if item else "false"
        elif isinstance(item, str | int | float):
            found[key] = _CONTROLS.sub(" ", str(item)).strip()
        elif item is None:
            found[key] = ""
        else:
            raise BadValueError(f"{shown(key)} is {kind_of(item)} instead of text")
    return Converted(found) if found else Converted(None, "empty: not set")


def _prefixes(text: str) -> dict[str, str]:
    before, caret, after = text.strip().partition("^")
    if not caret or not before or not after or "^" in after:
        raise BadValueError(f"{shown(text)} is not of the form old^new")
    return {before: after}


def _pairs(old: OldName, text: str) -> dict[str, str]:
    """Reads `A=1 B="2 3"`, in `catchall` also separated by commas; there a single word is `true`."""
    splitter = shlex.shlex(text, posix=True, punctuation_chars=False)
    splitter.whitespace_split = True
    splitter.commenters = ""
    if old.name == "catchall":
        splitter.whitespace += ","
    else:
        splitter.whitespace += ";"
    try:
        parts = list(splitter)
    except ValueError as error:
        raise BadValueError(f"{shown(text)} cannot be split: {error}") from error
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not name or (not equals and old.name != "catchall"):
            raise BadValueError(f"{shown(part)} is not of the form NAME=value")
        found[name.removeprefix("export ")] = (
            _CONTROLS.sub(" ", value).strip() if equals else "true"
        )
    return found


def _shown_json(value: Json) -> str:
    return shown(value) if isinstance(value, str) else str(value)
