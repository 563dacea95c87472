"""Changes single values in a text of YAML and keeps every other character.

People keep comments, an order and a layout in these files. A library that reads and writes the
whole file keeps most of that; replacing only the changed value keeps all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pandawn_tools.queuefiles.style import Written, block, entry, inline
from pandawn_tools.queuefiles.yamltree import Entries, Items, Node, Scalar


class LayoutError(Exception):
    """The layout of the file does not allow changes of single values."""


@dataclass(frozen=True, slots=True)
class _Cut:
    begin: int
    end: int
    text: str


def edit(
    text: str, root: Entries, changes: Mapping[str, Written | None], order: Sequence[str]
) -> str:
    """Returns the text with the changes: new values by name, None to remove a name.

    `order` has all names in the order of a new file: a new name is inserted after the nearest
    preceding one.

    Raises:
        LayoutError: The mapping is written in braces.
    """
    if root.flow:
        raise LayoutError("its values are written in braces on shared lines")
    newline = "\r\n" if "\r\n" in text else "\n"
    present = {key.text: (key, value) for key, value in root.entries}
    cuts: list[_Cut] = []
    added: dict[int, list[str]] = {}
    for name, written in changes.items():
        if name in present:
            key, value = present[name]
            cuts.append(
                _without(text, key, value, newline)
                if written is None
                else _replaced(text, key, value, written, newline)
            )
    for name in order:
        written = changes.get(name)
        if written is not None and name not in present:
            place, indent = _place_for(text, root, name, order)
            added.setdefault(place, []).extend(entry(name, written, indent))
    for place, lines in added.items():
        # The last line may have no line end.
        before = newline if place > 0 and text[place - 1] != "\n" else ""
        cuts.append(_Cut(place, place, before + "".join(line + newline for line in lines)))
    # From the back, so that earlier offsets stay valid; at the same place, insertions come before
    # replacements.
    for cut in sorted(cuts, key=lambda c: (c.begin, c.end), reverse=True):
        text = text[: cut.begin] + cut.text + text[cut.end :]
    return text


def _replaced(text: str, key: Scalar, value: Node, written: Written, newline: str) -> _Cut:
    begin, end = value.span.begin, value.span.end
    if isinstance(value, Scalar) and begin == end:
        # The value is empty, and YAML places it where the next token begins.
        colon = text.index(":", key.span.end) + 1
        return _Cut(colon, colon, f" {inline(written)}")
    if isinstance(value, Scalar) and isinstance(written, str):
        return _Cut(begin, end, written)
    if isinstance(value, Items | Entries) and not isinstance(written, str) and written:
        same_kind = isinstance(value, Items) != isinstance(written, Mapping)
        if value.flow and same_kind:
            return _Cut(begin, end, inline(written))
        if same_kind:
            # The first line already has its indent.
            lines = block(written, " " * (begin - _line_begin(text, begin)))
            return _Cut(begin, end, newline.join([*_comments(text, begin, value), *lines]).lstrip())
    lines = [f": {inline(written)}", *_comments(text, key.span.end, value)]
    return _Cut(key.span.end, end, newline.join(lines))


def _without(text: str, key: Scalar, value: Node, newline: str) -> _Cut:
    """Returns the cut of whole lines, including the comment after the value."""
    kept = "".join(line + newline for line in _comments(text, key.span.end, value))
    return _Cut(_line_begin(text, key.span.begin), _line_end(text, key, value), kept)


def _comments(text: str, begin: int, value: Node) -> list[str]:
    """Returns the comment lines from `begin` to the end of a list or mapping over several lines."""
    if isinstance(value, Scalar) or value.flow:
        return []
    lines = text[begin : value.span.end].splitlines()
    return [line for line in lines if line.lstrip().startswith("#")]


def _place_for(text: str, root: Entries, name: str, order: Sequence[str]) -> tuple[int, str]:
    """Returns the offset for the line of a new name, and its indent."""
    ranks = {known: rank for rank, known in enumerate(order)}
    rank = ranks[name]
    before = [
        (ranks[key.text], position)
        for position, (key, _) in enumerate(root.entries)
        if ranks.get(key.text, rank) < rank
    ]
    _, position = max(before, default=(0, len(root.entries) - 1))
    key, value = root.entries[position]
    indent = text[_line_begin(text, key.span.begin) : key.span.begin]
    return _line_end(text, key, value), indent if indent.isspace() else ""


def _line_end(text: str, key: Scalar, value: Node) -> int:
    """Returns the offset of the line after an entry."""
    nothing = value.span.begin == value.span.end
    end = text.find("\n", key.span.end if nothing else value.span.end)
    return len(text) if end < 0 else end + 1


def _line_begin(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1
