"""What a YAML file of queues says: scalars, lists and mappings, each with its place. `yamlparse` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class YamlError(Exception):
    """The text is no YAML that is taken here; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands in a text: offsets of its characters, and the line it begins in."""

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
    """A list; `flow` where it was written in brackets."""

    items: Sequence[Node]
    span: Span
    flow: bool = False


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping; keys may occur twice, which is for the reader to complain about."""

    entries: Sequence[tuple[Scalar, Node]]
    span: Span
    flow: bool = False


Node = Scalar | Items | Entries
