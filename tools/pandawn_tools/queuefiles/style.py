"""Writes values in YAML so that every YAML parser reads the same text."""

import re
from collections.abc import Mapping, Sequence

Written = str | Sequence[str] | Mapping[str, str]
"""A value as text: a scalar, a list or a mapping; scalars are quoted where necessary."""

# No characters with a meaning in YAML, inside brackets or outside.
_PLAIN = re.compile(
    r"[A-Za-z0-9_/][A-Za-z0-9_/.@%+=~()^|;$*<>-]*(?: [A-Za-z0-9_/.@%+=~()^|;$*<>-]+)*"
)
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
# Texts that some parser might read as a number, a time or a date.
_NUMBER = re.compile(r"[0-9.][0-9A-Fa-fxo_.+TZ-]*|0x.*|\.?(?:inf|nan)", re.IGNORECASE)
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def text_scalar(text: str) -> str:
    """Writes a text, in quotes where YAML would read it as something else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not _NUMBER.fullmatch(text):
        return text
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    # Outside ASCII, only printable characters: YAML has line ends there, and forbids some characters.
    if char.isprintable():
        return char
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def inline(value: Written) -> str:
    """Writes a value on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return "[" + ", ".join(value) + "]"


def entry(name: str, value: Written, indent: str = "") -> list[str]:
    """Writes a parameter as lines: short lists on one line, longer ones with one item per line."""
    single = f"{indent}{name}: {inline(value)}"
    if isinstance(value, str) or not value or len(single) <= _LINE:
        return [single]
    return [f"{indent}{name}:", *block(value, f"{indent}  ")]


# Above this length, a list is easier to compare with one item per line.
_LINE = 80


def block(value: Sequence[str] | Mapping[str, str], indent: str) -> list[str]:
    """Writes the items of a list or mapping, one per line."""
    if isinstance(value, Mapping):
        return [f"{indent}{key}: {item}" for key, item in value.items()]
    return [f"{indent}- {item}" for item in value]
