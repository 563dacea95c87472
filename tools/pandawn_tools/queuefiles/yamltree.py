"""The tree of a YAML file: scalars, lists and mappings, each with its place. `yamlparse` builds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class YamlError(Exception):
    """The text is not YAML, or uses an unsupported feature; `line` counts from 1, 0: unknown."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text: offsets of its characters, and the line in which it begins."""

    begin: int
    end: int
    line: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text. A `plain` one was written without quotes."""

    text: str
    span: Span
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list; `flow` if it was written in brackets."""

    items: Sequence[Node]
    span: Span
    flow: bool = False


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping; keys may be repeated, which its reader reports."""

    entries: Sequence[tuple[Scalar, Node]]
    span: Span
    flow: bool = False


Node = Scalar | Items | Entries
