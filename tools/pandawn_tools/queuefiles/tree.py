"""Reads a directory of files: clouds/, sites/ and queues/, one file for each document."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from pandawn.queueconfig.v1.document_pb2 import DocumentKind
from pandawn_tools.queuefiles.document import (
    CLOUD,
    KIND_WORDS,
    QUEUE,
    SITE,
    FileDocument,
    Key,
    read_document,
)
from pandawn_tools.queuefiles.problems import Problem
from pandawn_tools.queuefiles.yamlparse import MAX_FILE_BYTES, decode, parse
from pandawn_tools.queuefiles.yamltree import YamlError

DIRECTORIES = {"clouds": CLOUD, "sites": SITE, "queues": QUEUE}
"""Kinds of documents by the directory that holds them."""

# Ten times the queues of the largest experiment; the limit of one call.
MAX_FILES = 30_000
_ENDINGS = (".yaml", ".yml")


class TreeError(Exception):
    """The path is not a directory of queue files."""


@dataclass(slots=True)
class Tree:
    """The contents of a directory.

    `documents` are those that were read, without wrong values; `broken` are files that could not
    be read or have errors; `files` are all files that were read.
    """

    documents: dict[Key, FileDocument] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def broken(self) -> frozenset[str]:
        """Files with errors, named as in the problems."""
        return frozenset(problem.file for problem in self.problems)


def default_path(directory: Path, key: Key) -> Path:
    """Returns the default path of a document; people may use another file."""
    folder = next(name for name, kind in DIRECTORIES.items() if kind == key.kind)
    # A name that begins with a dot would be hidden.
    name = quote(key.name, safe="")
    return directory / folder / f"{name if name[:1] != '.' else '%2E' + name[1:]}.yaml"


def read_tree(directory: Path) -> Tree:
    """Reads all YAML files below `clouds/`, `sites/` and `queues/`; ignores other files there.

    Raises:
        TreeError: There is no such directory, or it has too many files.
    """
    if not directory.is_dir():
        raise TreeError(f"{directory} is not a directory")
    tree = Tree()
    for folder, kind in DIRECTORIES.items():
        for path in _files(directory / folder):
            if len(tree.files) >= MAX_FILES:
                raise TreeError(f"{directory} has more than {MAX_FILES:,} files")
            tree.files.append(path)
            _read(tree, directory, path, kind)
    for path in sorted(directory.iterdir()):
        if path.suffix in _ENDINGS and not path.name.startswith("."):
            where = ", ".join(f"{name}/" for name in DIRECTORIES)
            tree.problems.append(Problem(path.name, 0, f"it is in none of {where}"))
    tree.problems.sort()
    tree.notes.sort()
    return tree


def has_folders(directory: Path) -> bool:
    """Whether a directory has any of the three folders."""
    return any((directory / folder).is_dir() for folder in DIRECTORIES)


def _files(folder: Path) -> Iterator[Path]:
    # Symbolic links are not followed: they could lead anywhere.
    if folder.is_symlink():
        return
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(_ENDINGS) and not name.startswith("."):
                yield Path(parent, name)


def _read(tree: Tree, directory: Path, path: Path, kind: DocumentKind.ValueType) -> None:
    file = str(path.relative_to(directory))
    word = KIND_WORDS[kind]
    try:
        text = read_text(path)
        root = parse(text)
    except YamlError as error:
        tree.problems.append(Problem(file, error.line, str(error)))
        return
    document, problems, notes = read_document(root, path, file, kind)
    tree.problems += problems
    tree.notes += notes
    if document is None:
        return
    line = document.lines[word]
    name = unquote(path.name.rpartition(".")[0])
    if name != document.key.name:
        wanted = default_path(directory, document.key).name
        tree.problems.append(
            Problem(file, line, f"it describes {document.key}, so its name must be {wanted}")
        )
    if document.key in tree.documents:
        other = tree.documents[document.key].path.relative_to(directory)
        tree.problems.append(Problem(file, line, f"{document.key} is already described by {other}"))
        return
    tree.documents[document.key] = document


def read_text(path: Path) -> str:
    """Returns the text of a file of limited size.

    Raises:
        YamlError: It cannot be read, is too large, not UTF-8, or not a regular file.
    """
    if path.is_symlink():
        raise YamlError("it is a symbolic link, which could lead anywhere; put the file here", 0)
    if not path.is_file():
        raise YamlError("it is not a regular file", 0)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise YamlError(f"it cannot be read: {error.strerror or error}", 0) from error
    return decode(raw)


def lines_of(document: FileDocument) -> Mapping[str, int]:
    """Returns the line of each field for which the server may report a violation."""
    return {**document.lines, "name": document.lines[KIND_WORDS[document.key.kind]]}
