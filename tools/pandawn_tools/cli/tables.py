"""Tables that fit the terminal, and that print 100,000 rows without delay.

rich's own tables take more than a millisecond for each row.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pandawn_tools.cli.render import clean, stderr_console, stdout_console

_GAP = "  "
# A column is at least this wide, also on a narrow terminal.
_LEAST_WIDTH = 6

# Parts between which a name may be broken: `zpeak.20261128-`, not `zpeak.202611`.
_NAME_PART = re.compile(r"[^._/:@-]*[._/:@-]+|[^._/:@-]+$")
# Marks a blank that is not part of the text. Cleaned text has no control characters.
_BREAK = "\x00"

Cell = str | int | Text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    A `fold` column is wrapped when the terminal is narrow, and if it is `whole`, only between words. An
    `optional` column is left out when all its cells are empty.
    """

    title: str
    justify: Literal["left", "right"] = "left"
    fold: bool = False
    whole: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class _Piece:
    """A cell: its clean text, the width of the text on the terminal, and its style."""

    text: str
    width: int
    style: str


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, empty: str) -> None:
    """Prints a table to standard output, or, if it has no rows, `empty` to standard error."""
    grid = [[_piece(cell) for cell in row] for row in rows]
    if not grid:
        stderr_console().print(Text(empty))
        return
    shown = [
        n for n, column in enumerate(columns) if not column.optional or any(r[n].text for r in grid)
    ]
    kept = [columns[n] for n in shown]
    _print(
        stdout_console(),
        kept,
        [
            [_Piece(column.title, len(column.title), "bold") for column in kept],
            *([row[n] for n in shown] for row in grid),
        ],
    )


def print_fields(fields: Iterable[tuple[str, Cell]]) -> None:
    """Prints a line for each name and value; empty values are left out.

    A value of one word, such as a path, stays in one line: somebody will copy it.
    """
    grid = [
        [_Piece(name, cell_len(name), "bold"), _piece(value)]
        for name, value in fields
        if str(value)
    ]
    if grid:
        _print(stdout_console(), [Column(""), Column("", fold=True, whole=True)], grid)


def _piece(cell: Cell) -> _Piece:
    if isinstance(cell, Text):
        return _Piece(cell.plain, cell.cell_len, str(cell.style))
    text = clean(str(cell))
    return _Piece(text, cell_len(text), "")


def _print(console: Console, columns: Sequence[Column], grid: Sequence[Sequence[_Piece]]) -> None:
    widths = _widths(columns, grid, console.width)
    coloured = console.is_terminal
    lines = (line for row in grid for line in _lines(console, columns, widths, row))
    if coloured:
        for line in lines:
            text = Text.assemble(*line)
            text.rstrip()
            console.print(text, soft_wrap=True)
    else:
        plain = ("".join(part for part, _ in line).rstrip() for line in lines)
        console.print("\n".join(plain), soft_wrap=True, markup=False, emoji=False)


def _widths(
    columns: Sequence[Column], grid: Sequence[Sequence[_Piece]], available: int
) -> list[int]:
    """Returns the widths of the columns: as needed, or less if the terminal is narrow."""
    widths = [max(row[n].width for row in grid) for n in range(len(columns))]
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - available
    while excess > 0:
        foldable = [
            n for n, column in enumerate(columns) if column.fold and widths[n] > _LEAST_WIDTH
        ]
        if not foldable:
            break
        # The widest columns shrink first, down to the width of the next.
        foldable.sort(key=lambda n: widths[n], reverse=True)
        widest = widths[foldable[0]]
        below = max((widths[n] for n in foldable if widths[n] < widest), default=_LEAST_WIDTH)
        of_that_width = [n for n in foldable if widths[n] == widest]
        step = min(widest - below, -(-excess // len(of_that_width)))
        for n in of_that_width:
            taken = min(step, max(excess, 0))
            widths[n] -= taken
            excess -= taken
    return widths


def _lines(
    console: Console, columns: Sequence[Column], widths: Sequence[int], row: Sequence[_Piece]
) -> Iterable[list[tuple[str, str]]]:
    """Yields the lines of a row, each a list of texts and styles."""
    folded = [
        [piece]
        if piece.width <= width or (column.whole and " " not in piece.text)
        else _fold(console, piece, width)
        for column, piece, width in zip(columns, row, widths, strict=True)
    ]
    for depth in range(max(map(len, folded))):
        line: list[tuple[str, str]] = []
        for column, width, pieces in zip(columns, widths, folded, strict=True):
            if line:
                line.append((_GAP, ""))
            piece = pieces[depth] if depth < len(pieces) else _Piece("", 0, "")
            padding = " " * (width - piece.width)
            right = column.justify == "right"
            line.append((padding + piece.text if right else piece.text + padding, piece.style))
        yield line


def _fold(console: Console, piece: _Piece, width: int) -> list[_Piece]:
    wrapped = Text(_breakable(piece.text, width)).wrap(console, width, overflow="fold")
    texts = [line.plain.rstrip().replace(_BREAK, "") for line in wrapped]
    return [_Piece(text, cell_len(text), piece.style) for text in texts]


def _breakable(text: str, width: int) -> str:
    """Returns the text with marks where long words may be broken: after the separators in names."""
    return " ".join(_break_word(word, width) for word in text.split(" "))


def _break_word(word: str, width: int) -> str:
    if cell_len(word) <= width:
        return word
    lines: list[str] = []
    line = ""
    for part in _NAME_PART.findall(word):
        if line and cell_len(line + part) > width:
            lines.append(line)
            line = ""
        line += part
    return f"{_BREAK} ".join([*lines, line])
