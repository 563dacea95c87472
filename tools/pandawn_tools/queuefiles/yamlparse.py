"""Parses untrusted YAML: values as written, each with its place.

It accepts the part of YAML that a description of a queue needs: one document of mappings, lists and
scalars. It refuses aliases (a few lines could become gigabytes), tags, merge keys and deep nesting, and
limits the size. Scalars stay text: the type of the parameter, not YAML's rules, decides what `no` or
`010` means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pandawn_tools.queuefiles.yamltree import Entries, Items, Node, Scalar, Span, YamlError

# Enough for many times a hundred parameters with comments.
MAX_FILE_BYTES = 128 * 1024
# A mapping of parameters, a mapping or list in it, and one more level for future needs.
_MAX_DEPTH = 4
_MAX_NODES = 10_000
_MERGE_KEY = "<<"


class _Mark(Protocol):
    index: int
    line: int


def decode(raw: bytes) -> str:
    """Returns the text of a file.

    Raises:
        YamlError: It is too large or not UTF-8.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise YamlError(f"the file has {len(raw):,} bytes; the limit is {MAX_FILE_BYTES:,}", 0)
    try:
        # Strips the byte-order mark that some editors write at the beginning.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise YamlError("the file is not UTF-8", line) from error


def parse(text: str) -> Entries:
    """Parses a text that holds one mapping.

    Raises:
        YamlError: The text is not YAML, or uses a feature that is refused here.
    """
    builder = _Builder(text)
    try:
        for event in _events(text):
            builder.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        raise YamlError(error.problem or error.context or "this is no YAML", line) from error
    except YAMLError as error:
        # A character that YAML does not allow; the error has no line.
        raise YamlError(str(error).partition("\n")[0] or "this is no YAML", 0) from error
    if not isinstance(builder.root, Entries):
        line = builder.root.span.line if builder.root is not None else 0
        raise YamlError("there is no `name: value` in it", line)
    return builder.root


def _events(text: str) -> Iterator[Event]:
    # ruamel's own stubs leave the iterator untyped.
    return cast("Iterator[Event]", YAML(typ="safe", pure=True).parse(text))


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end was not read yet."""

    begin: _Mark
    flow: bool
    is_mapping: bool
    children: list[Node] = field(default_factory=list)


class _Builder:
    """Builds the tree from the events, and refuses unsupported features."""

    def __init__(self, text: str) -> None:
        self.root: Node | None = None
        self._text = text
        self._open: list[_Open] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Event) -> None:
        line = cast("_Mark", event.start_mark).line + 1
        self._refuse(event, line)
        if isinstance(event, ScalarEvent):
            span = self._span(event.start_mark, event.end_mark.index)
            self._add(Scalar(event.value, span, plain=event.style is None), line)
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            if len(self._open) >= _MAX_DEPTH:
                raise YamlError(f"it is nested more than {_MAX_DEPTH} deep", line)
            is_mapping = isinstance(event, MappingStartEvent)
            self._open.append(_Open(event.start_mark, bool(event.flow_style), is_mapping))
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            done = self._open.pop()
            # A mapping or list without brackets ends with its last value.
            last = done.children[-1].span.end if done.children and not done.flow else None
            span = self._span(done.begin, event.end_mark.index if last is None else last)
            if not done.is_mapping:
                self._add(Items(done.children, span, done.flow), line)
                return
            keys = cast("list[Scalar]", done.children[::2])
            entries = list(zip(keys, done.children[1::2], strict=True))
            self._add(Entries(entries, span, done.flow), line)

    def _refuse(self, event: Event, line: int) -> None:
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlError("a second document begins; one file describes one queue", line)
        if isinstance(event, AliasEvent):
            raise YamlError("aliases (*name) are not taken here; write the value", line)
        if getattr(event, "anchor", None) is not None:
            raise YamlError("anchors (&name) are not taken here; write the value", line)
        if getattr(event, "tag", None) is not None:
            raise YamlError("tags (!name) are not taken here; write the plain value", line)

    def _add(self, node: Node, line: int) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise YamlError(f"it has more than {_MAX_NODES:,} values", line)
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if parent.is_mapping and len(parent.children) % 2 == 0:
            if not isinstance(node, Scalar):
                raise YamlError("a name must be plain text, not a list or mapping", line)
            if node.text == _MERGE_KEY and node.plain:
                raise YamlError("merge keys (<<) are not taken here; write the values", line)
        parent.children.append(node)

    def _span(self, begin: _Mark, end: int) -> Span:
        """Returns the place, without the trailing blank lines that YAML includes."""
        kept = self._text[begin.index : end].rstrip()
        return Span(begin.index, begin.index + len(kept), begin.line + 1)
