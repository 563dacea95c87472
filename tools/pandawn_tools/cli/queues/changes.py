"""Prints differences between documents: one block for each document, one line for each parameter."""

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from pandawn.queueconfig.v1 import document_pb2, parameters_pb2
from pandawn_tools.cli.render import clean, stdout_console
from pandawn_tools.cli.units import format_count
from pandawn_tools.queuefiles.document import KIND_WORDS
from pandawn_tools.queuefiles.parameters import Parameter, parameters, value_of
from pandawn_tools.queuefiles.values import plain

_SIGNS = {
    document_pb2.DOCUMENT_ACTION_CREATE: ("+", "green"),
    document_pb2.DOCUMENT_ACTION_CHANGE: ("~", "yellow"),
    document_pb2.DOCUMENT_ACTION_DELETE: ("-", "red"),
}
# Words for planned and for completed changes.
_WORDS = {
    document_pb2.DOCUMENT_ACTION_CREATE: ("to create", "created"),
    document_pb2.DOCUMENT_ACTION_CHANGE: ("to change", "changed"),
    document_pb2.DOCUMENT_ACTION_DELETE: ("to delete", "deleted"),
}
_UNSET = "(unset)"


def print_diffs(diffs: Iterable[document_pb2.DocumentDiff]) -> None:
    """Prints differences, in colour on a terminal."""
    console = stdout_console()
    lines = (line for diff in diffs for line in _lines(diff))
    if console.is_terminal:
        for line in lines:
            console.print(line, soft_wrap=True)
    elif plain_lines := [line.plain for line in lines]:
        # A first import has a hundred thousand lines, and rich is slow for each.
        console.print("\n".join(plain_lines), soft_wrap=True, markup=False, emoji=False)


def _lines(diff: document_pb2.DocumentDiff) -> Iterator[Text]:
    sign, style = _SIGNS.get(diff.action, ("?", ""))
    kind = KIND_WORDS.get(diff.kind, "document")
    yield Text(f"{sign} {kind} {clean(diff.name)}", style=f"bold {style}")
    for parameter in parameters().values():
        if parameter.name in diff.parameters:
            yield _line(diff, parameter)


def _line(diff: document_pb2.DocumentDiff, parameter: Parameter) -> Text:
    old = shown(diff.old_values, parameter)
    new = shown(diff.new_values, parameter)
    line = Text(f"    {parameter.name}: ")
    if diff.action == document_pb2.DOCUMENT_ACTION_CREATE:
        return line.append(new, style="green")
    if diff.action == document_pb2.DOCUMENT_ACTION_DELETE:
        return line.append(old, style="red")
    line.append(old, style="red").append(" -> ")
    return line.append(new, style="green")


def shown(values: parameters_pb2.QueueParameters, parameter: Parameter) -> str:
    """Returns the value of a parameter as text, or `(unset)`."""
    value = value_of(values, parameter)
    return _UNSET if value is None else clean(plain(parameter, value))


def counts(diffs: Sequence[document_pb2.DocumentDiff], *, done: bool) -> str:
    """Returns a summary: `2 queues to create, 1 site to change`, or with `done` `2 queues created`."""
    found: dict[tuple[str, str], int] = {}
    for diff in diffs:
        key = (KIND_WORDS.get(diff.kind, "document"), _WORDS[diff.action][done])
        found[key] = found.get(key, 0) + 1
    return ", ".join(f"{format_count(n, kind)} {word}" for (kind, word), n in found.items())
