"""Writes documents into a directory of files, and keeps what people wrote there.

A file without differences is not written. In other files only the values that differ change;
comments, order, layout and old names stay.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.queuefiles.document import (
    KIND_WORDS,
    FileDocument,
    Key,
    allowed,
    read_document,
)
from pandawn_tools.queuefiles.edit import LayoutError, edit
from pandawn_tools.queuefiles.parameters import Parameter, value_of
from pandawn_tools.queuefiles.problems import Problem
from pandawn_tools.queuefiles.style import Written, entry, text_scalar
from pandawn_tools.queuefiles.tree import Tree, default_path, read_text, read_tree
from pandawn_tools.queuefiles.values import written
from pandawn_tools.queuefiles.yamlparse import parse
from pandawn_tools.queuefiles.yamltree import YamlError


@dataclass(slots=True)
class Exported:
    """Result of an export: files by outcome, and those that were not changed, with the problem."""

    created: list[Path] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)
    same: int = 0
    gone: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def new_text(key: Key, values: parameters_pb2.QueueParameters) -> str:
    """Returns the text of a new file for a document."""
    lines = [f"{KIND_WORDS[key.kind]}: {text_scalar(key.name)}"]
    group = ""
    for parameter in allowed(key.kind):
        value = value_of(values, parameter)
        if value is None:
            continue
        if parameter.group != group:
            group = parameter.group
            lines += ["", f"# {group}"]
        lines += entry(parameter.name, written(parameter, value))
    return "\n".join(lines) + "\n"


def export(
    directory: Path, documents: Mapping[Key, parameters_pb2.QueueParameters], *, prune: bool
) -> Exported:
    """Writes the documents to the files; with `prune` removes files of other documents.

    Raises:
        TreeError: The directory is not a readable directory of queue files.
        OSError: A file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tree = read_tree(directory)
    done = Exported()
    for key, values in documents.items():
        if key in tree.documents:
            _update(directory, tree, tree.documents[key], values, done)
            continue
        path = default_path(directory, key)
        if path.exists() or path.is_symlink():
            # It could not be read, or describes something else.
            _leave(directory, tree, path, done)
            continue
        _write(path, new_text(key, values))
        done.created.append(path)
    for key, document in tree.documents.items():
        if key not in documents and prune:
            document.path.unlink()
            done.removed.append(document.path)
        elif key not in documents:
            done.gone.append(document.path)
    return done


def _leave(directory: Path, tree: Tree, path: Path, done: Exported) -> None:
    file = str(path.relative_to(directory))
    said = [problem for problem in tree.problems if problem.file == file]
    done.problems += said or [Problem(file, 0, "it describes something else")]


def _update(
    directory: Path,
    tree: Tree,
    document: FileDocument,
    values: parameters_pb2.QueueParameters,
    done: Exported,
) -> None:
    file = str(document.path.relative_to(directory))
    if file in tree.broken:
        _leave(directory, tree, document.path, done)
        return
    changes = _changes(document, values)
    if not changes:
        done.same += 1
        return
    try:
        raw_bom = document.path.read_bytes().startswith(b"\xef\xbb\xbf")
        text = read_text(document.path)
        made = edit(text, parse(text), changes, _order(document))
        _verify(document, made, values)
    except (LayoutError, YamlError) as error:
        message = f"its values cannot be changed separately ({error}); remove it, and export again"
        done.problems.append(Problem(file, 0, message))
        return
    _write(document.path, "\ufeff" + made if raw_bom else made)
    done.changed.append(document.path)


def _order(document: FileDocument) -> list[str]:
    """Returns the names that the file has or may get, in the order of a new file."""
    names = [KIND_WORDS[document.key.kind]]
    for parameter in allowed(document.key.kind):
        names += [document.keys.get(parameter.name, parameter.name), parameter.name]
    return list(dict.fromkeys(names))


def _changes(
    document: FileDocument, values: parameters_pb2.QueueParameters
) -> dict[str, Written | None]:
    """Returns the changes of the file, by the existing or new name in it."""
    differing = [
        p for p in allowed(document.key.kind) if value_of(document.values, p) != value_of(values, p)
    ]
    changes: dict[str, Written | None] = {}
    rewritten: list[Parameter] = list(differing)
    for parameter in differing:
        key = document.keys.get(parameter.name, parameter.name)
        if key != parameter.name:
            # The old name is removed, with all the parameters that it sets.
            changes[key] = None
            shared = [p for p in allowed(document.key.kind) if document.keys.get(p.name) == key]
            rewritten += [p for p in shared if p not in rewritten]
    for parameter in rewritten:
        value = value_of(values, parameter)
        if value is not None:
            changes[parameter.name] = written(parameter, value)
        elif parameter.name in document.lines:
            changes.setdefault(document.keys[parameter.name], None)
    return changes


def _verify(document: FileDocument, text: str, values: parameters_pb2.QueueParameters) -> None:
    """Raises `LayoutError` if the text does not give the expected values, because of an unusual layout."""
    key = document.key
    again, problems, _ = read_document(parse(text), document.path, "", key.kind)
    same = again is not None and all(
        value_of(again.values, p) == value_of(values, p) for p in allowed(key.kind)
    )
    if problems or not same or again is None or again.key != key:
        raise LayoutError("their layout is unusual")


def _write(path: Path, text: str) -> None:
    """Writes the file atomically: another program may be reading it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".pandawn-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
