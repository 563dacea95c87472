"""Lists of files by logical name, which need not be on this machine: `LFN SIZE [SCOPE [GUID [VERSION]]]` on each line.

Columns are separated by tabs if a line has one, else by blanks, so a name may contain blanks. `-` is
an empty scope or GUID. The version, best `sha256:` and the digest of the content, tells files of the
same name apart. Blank lines and lines that begin with `#` are skipped. All errors in a list are
reported together, line by line, before anything is sent.
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
    """A file of a list, and its line there (`list.dat:3`)."""

    file: types.File
    place: str


class _ProblemError(Exception):
    """What is wrong with one line."""


def read_file_list(path: str, scope: str = "", *, with_sizes: bool = True) -> list[ListedFile]:
    """Reads a list; `-` is standard input, `scope` is for lines without a scope.

    `with_sizes`: each line must have a size. Without it, a missing size is 0.

    Raises:
        CliError: The list cannot be read, is empty, or has bad lines; all bad lines are reported.
    """
    shown = "stdin" if path == _STDIN else path
    lines = enumerate(_read(path, shown).split("\n"), start=1)
    listed: list[ListedFile] = []
    problems: list[str] = []
    count = 0
    for number, line in lines:
        # Not strip(): a tab at the end may be an empty column.
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
            f"{len(problems)} of {count:,} lines of the file list {shown} cannot be used; nothing was sent",
            details=problems,
            remedies=[
                f"write each line as {_form(with_sizes=with_sizes)}, separated by blanks or tabs"
            ],
        )
    if not listed:
        raise usage_error(
            "EMPTY_FILE_LIST",
            f"the file list {shown} has no file",
            details=["all its lines are blank or comments" if count == 0 else "it is empty"],
            remedies=[f"write one file per line: {_form(with_sizes=with_sizes)}"],
        )
    return listed


def with_lines(
    error: CliError, batch: Sequence[ListedFile], before: int, done: Callable[[int], str]
) -> CliError:
    """Returns the server's refusal of a batch, with lines of the list in place of fields of the request.

    `before` files were sent in earlier batches; `done(before)` is the sentence about them.
    """

    def place(field: str) -> str:
        index = field.partition("[")[2].partition("]")[0]
        return batch[int(index)].place if index.isdecimal() and int(index) < len(batch) else field

    placed = with_places(error, place)
    if not before:
        return placed
    return CliError(
        placed.status,
        placed.reason,
        placed.message,
        details=placed.details,
        remedies=[
            *placed.remedies,
            f"{done(before)}; run the command again with the whole list, which is safe",
        ],
        violations=placed.violations,
    )


def _read(path: str, shown: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if path == _STDIN else Path(path).read_bytes()
    except OSError as error:
        raise usage_error(
            "FILE_MISSING" if isinstance(error, FileNotFoundError) else "FILE_UNREADABLE",
            f"the file list {shown} cannot be read",
            details=[error.strerror or str(error)],
            remedies=[f"relative paths start at {Path.cwd()}"],
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
        raise _ProblemError(f"has {many}, not {least} to {_COLUMNS}: {text}")
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
    """Reads the version of a file; empty: unknown. Raises ValueError if it is not a version."""
    if text and not is_version(text):
        raise ValueError(f"{text} is not a version: write sha256: and 64 lower-case hex digits")
    return text


def _unless_none(column: str) -> str:
    return "" if column == _NONE else column


def _doubles(listed: Sequence[ListedFile]) -> list[str]:
    first: dict[tuple[str, str, str], ListedFile] = {}
    problems = []
    for one in listed:
        before = first.setdefault((one.file.scope, one.file.lfn, one.file.version), one)
        if before is not one:
            problems.append(f"{one.place}: {one.file.lfn} is also in {before.place}")
    return problems


def _form(*, with_sizes: bool) -> str:
    return (
        "LFN SIZE [SCOPE [GUID [VERSION]]]" if with_sizes else "LFN [SIZE [SCOPE [GUID [VERSION]]]]"
    )
