"""Lists of files by logical name, for files that need not be here: `LFN SIZE [SCOPE [GUID [VERSION]]]` a line.

Columns are separated by tabs where a line has one, else by blanks, so that names with blanks can be
written too. `-` stands for an empty scope or GUID. The version (`sha256:` and the digest of the
content, best) says which file of that name it is. Blank lines, and those that begin with `#`, are
skipped. Everything that is wrong with a list is said at once, line by line, before anything is sent.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pandawn.common.v1 import common_pb2 as types
from pandawn_client.file_version import is_version
from pandawn_tools.cli.errors import CliError, usage_error, with_places
from pandawn_tools.cli.units import parse_size

_STDIN = "-"
_NONE = "-"
_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a list and where it stands (`list.dat:3`)."""

    file: types.File
    place: str


class _ProblemError(Exception):
    """What is wrong with one line."""


def read_file_list(path: str, scope: str = "", *, with_sizes: bool = True) -> list[ListedFile]:
    """Reads a list; `-` is standard input, `scope` that of lines without one.

    `with_sizes` says whether each line must have a size; one without has 0.

    Raises:
        CliError: The list cannot be read, is empty, or has bad lines (all are named).
    """
    shown = "stdin" if path == _STDIN else path
    lines = enumerate(_read(path, shown).split("\n"), start=1)
    listed: list[ListedFile] = []
    problems: list[str] = []
    count = 0
    for number, line in lines:
        # Not strip(): a tab at the end may stand for an empty column.
        text = line.strip(" \r")
        if not text.strip() or text.startswith("#"):
            continue
        count += 1
        place = f"{shown}:{number}"
        try:
            listed.append(ListedFile(_parse(text, scope, with_sizes=with_sizes), place))
        except (_ProblemError, ValueError) as problem:
            problems.append(f"{place}: {problem}")
    problems += _doubles(listed)
    if problems:
        raise usage_error(
            "BAD_FILE_LIST",
            f"{len(problems)} of the {count:,} lines of the file list {shown} cannot be used; nothing was sent",
            details=problems,
            remedies=[f"a line is {_form(with_sizes=with_sizes)}, separated by blanks or tabs"],
        )
    if not listed:
        raise usage_error(
            "EMPTY_FILE_LIST",
            f"the file list {shown} names no file",
            details=["all its lines are blank or comments" if count == 0 else "it is empty"],
            remedies=[f"write one file a line: {_form(with_sizes=with_sizes)}"],
        )
    return listed


def with_lines(
    error: CliError, batch: Sequence[ListedFile], before: int, done: Callable[[int], str]
) -> CliError:
    """Returns the server's refusal of a batch with lines of the list for its fields.

    `before` files were sent in batches before; `done` says what came of so many.
    """

    def place(field: str) -> str:
        index = field.partition("[")[2].partition("]")[0]
        return batch[int(index)].place if index.isdecimal() and int(index) < len(batch) else field

    told = with_places(error, place)
    if not before:
        return told
    return CliError(
        told.status,
        told.reason,
        told.message,
        details=told.details,
        remedies=[*told.remedies, f"{done(before)}; repeat the whole list, which does no harm"],
        violations=told.violations,
    )


def _read(path: str, shown: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if path == _STDIN else Path(path).read_bytes()
    except OSError as error:
        raise usage_error(
            "FILE_MISSING" if isinstance(error, FileNotFoundError) else "FILE_UNREADABLE",
            f"the file list {shown} cannot be read",
            details=[error.strerror or str(error)],
            remedies=[f"relative paths are looked up from {Path.cwd()}"],
        ) from error
    return os.fsdecode(raw)


def _parse(text: str, scope: str, *, with_sizes: bool) -> types.File:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _ProblemError("is not UTF-8") from error
    columns = [part.strip() for part in text.split("\t")] if "\t" in text else text.split()
    least = 2 if with_sizes else 1
    if not least <= len(columns) <= _COLUMNS:
        many = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
        raise _ProblemError(f"has {many}; it is to have {least} to {_COLUMNS}: {text}")
    lfn, size, own_scope, guid, version = (*columns, *[""] * (_COLUMNS - len(columns)))
    if not lfn:
        raise _ProblemError("has no LFN before the first tab")
    if not size and with_sizes:
        raise _ProblemError(f"has no size: {lfn}")
    return types.File(
        lfn=lfn,
        size_bytes=parse_size(size) if size else 0,
        scope=_unless_none(own_scope) if own_scope else scope,
        guid=_unless_none(guid),
        version=parse_file_version(_unless_none(version)),
    )


def parse_file_version(text: str) -> str:
    """Reads the version of a file, empty if it is unknown. Raises ValueError for what is none."""
    if text and not is_version(text):
        raise ValueError(f"{text} is no version: write sha256: and 64 lower-case hex digits")
    return text


def _unless_none(column: str) -> str:
    return "" if column == _NONE else column


def _doubles(listed: Sequence[ListedFile]) -> list[str]:
    first: dict[tuple[str, str, str], ListedFile] = {}
    problems = []
    for one in listed:
        before = first.setdefault((one.file.scope, one.file.lfn, one.file.version), one)
        if before is not one:
            problems.append(f"{one.place}: {one.file.lfn} stands in {before.place} already")
    return problems


def _form(*, with_sizes: bool) -> str:
    return (
        "LFN SIZE [SCOPE [GUID [VERSION]]]" if with_sizes else "LFN [SIZE [SCOPE [GUID [VERSION]]]]"
    )
