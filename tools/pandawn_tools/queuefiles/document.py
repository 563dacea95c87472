"""Reads one file: the document of a queue, a site or a cloud, with the line of each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pandawn.queueconfig.v1 import document_pb2, parameters_pb2
from pandawn.queueconfig.v1.document_pb2 import DocumentKind
from pandawn_tools.queuefiles.legacy import Json, convert
from pandawn_tools.queuefiles.oldnames import OldName
from pandawn_tools.queuefiles.parameters import (
    Parameter,
    Value,
    assign,
    old_names,
    parameters,
)
from pandawn_tools.queuefiles.problems import Problem, shown, suggestion
from pandawn_tools.queuefiles.values import from_node, plain
from pandawn_tools.queuefiles.yamltree import Entries, Items, Node, Scalar

CLOUD = document_pb2.DOCUMENT_KIND_CLOUD
SITE = document_pb2.DOCUMENT_KIND_SITE
QUEUE = document_pb2.DOCUMENT_KIND_QUEUE

KIND_WORDS: Mapping[DocumentKind.ValueType, str] = {
    CLOUD: "cloud",
    SITE: "site",
    QUEUE: "queue",
}
"""Words for the kinds of documents; they are also the first names in their files."""

# The document of a site or cloud cannot set its own site or cloud.
_NOT_IN: Mapping[DocumentKind.ValueType, frozenset[str]] = {
    CLOUD: frozenset({"site", "cloud"}),
    SITE: frozenset({"site"}),
    QUEUE: frozenset(),
}


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Identifies a document. Sorts clouds before sites, sites before queues."""

    kind: DocumentKind.ValueType
    name: str

    def __str__(self) -> str:
        return f"{KIND_WORDS[self.kind]} {self.name}"


@dataclass(frozen=True, slots=True)
class FileDocument:
    """A document read from a file.

    `lines` has the line of each parameter and of the name (under the word for the kind); `keys` has
    the name of each parameter in the file, which may be an old one.
    """

    key: Key
    path: Path
    values: parameters_pb2.QueueParameters
    lines: Mapping[str, int]
    keys: Mapping[str, str]


@dataclass(slots=True)
class _Reading:
    """State while a file is read."""

    file: str
    kind: DocumentKind.ValueType
    values: parameters_pb2.QueueParameters = field(default_factory=parameters_pb2.QueueParameters)
    lines: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    name: str | None = None

    def wrong(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.file, line, message))


@cache
def known(kind: DocumentKind.ValueType) -> Mapping[str, Parameter]:
    """Returns the parameters that a document of the kind may set by name, in their order."""
    return {p.name: p for p in parameters().values() if p.name not in _NOT_IN[kind]}


def allowed(kind: DocumentKind.ValueType) -> Iterable[Parameter]:
    """Returns the parameters that a document of the kind may set, in their order."""
    return known(kind).values()


def read_document(
    root: Entries, path: Path, file: str, kind: DocumentKind.ValueType
) -> tuple[FileDocument | None, list[Problem], list[Problem]]:
    """Returns the document, its problems, and notes.

    The document is None if the file gives no name; it lacks values that are wrong.
    """
    reading = _Reading(file, kind)
    word = KIND_WORDS[kind]
    seen: dict[str, int] = {}
    for key, node in root.entries:
        line = key.span.line
        if key.text in seen:
            reading.wrong(line, f"{key.text} is already in line {seen[key.text]}")
            continue
        seen[key.text] = line
        if key.text == word:
            _read_name(reading, node, line)
        else:
            _read_parameter(reading, key, node)
    if word not in seen:
        reading.wrong(0, f"it does not name the {word}; begin it with `{word}: NAME`")
    if reading.name is None:
        return None, reading.problems, reading.notes
    document = FileDocument(
        Key(kind, reading.name), path, reading.values, reading.lines, reading.keys
    )
    return document, reading.problems, reading.notes


def _read_name(reading: _Reading, node: Node, line: int) -> None:
    word = KIND_WORDS[reading.kind]
    reading.lines[word] = line
    if not isinstance(node, Scalar) or not node.text:
        reading.wrong(line, f"{word} must be a name")
        return
    reading.name = node.text


def _read_parameter(reading: _Reading, key: Scalar, node: Node) -> None:
    name, line, here = key.text, key.span.line, KIND_WORDS[reading.kind]
    names = known(reading.kind)
    if name in names:
        try:
            value = from_node(names[name], node)
        except ValueError as error:
            reading.wrong(line, f"{name}: {error}")
            return
        _set(reading, names[name], key, value)
        return
    if name == KIND_WORDS[QUEUE]:
        reading.wrong(line, f"it describes a queue, but is in the directory of {here}s")
        return
    if name in parameters():
        reading.wrong(line, f"{name} cannot be set for a {here}")
        return
    meanings = [(p, old) for p, old in old_names().get(name, ()) if p.name in names]
    if not meanings:
        hint = suggestion(name, [*names, *old_names(), here])
        reading.wrong(line, f"{shown(name)} is not a parameter{hint}")
    for parameter, old in meanings:
        _read_old(reading, parameter, old, key, node)


def _read_old(
    reading: _Reading, parameter: Parameter, old: OldName, key: Scalar, node: Node
) -> None:
    line = key.span.line
    try:
        converted = convert(parameter, old, _as_json(node))
    except ValueError as error:
        reading.wrong(line, f"{old.name} (now {parameter.name}): {error}")
        return
    if converted.value is None:
        said = f"{old.name} is called {parameter.name} now; {converted.note}"
    else:
        said = f"{old.name} is called {parameter.name} now: {plain(parameter, converted.value)}"
        _set(reading, parameter, key, converted.value)
    reading.notes.append(Problem(reading.file, line, said))


def _set(reading: _Reading, parameter: Parameter, key: Scalar, value: Value) -> None:
    line = key.span.line
    if parameter.name in reading.lines:
        before = reading.keys[parameter.name]
        also = "" if before == parameter.name == key.text else f" (as {before})"
        reading.wrong(
            line,
            f"{key.text} sets {parameter.name}, which line {reading.lines[parameter.name]} "
            f"already sets{also}",
        )
        return
    reading.lines[parameter.name] = line
    reading.keys[parameter.name] = key.text
    try:
        assign(reading.values, parameter, value)
    except ValueError as error:
        reading.wrong(line, f"{key.text}: {error}")


def _as_json(node: Node) -> Json:
    if isinstance(node, Scalar):
        return None if node.plain and node.text in {"", "~", "null"} else node.text
    if isinstance(node, Items):
        return [_as_json(item) for item in node.items]
    return {key.text: _as_json(value) for key, value in node.entries}
