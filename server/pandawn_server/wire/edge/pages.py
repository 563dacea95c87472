"""Pages of lists: as many rows as were asked for, and no more than one message should hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from pandawn_server.domain.dispatch.reply_size import LIST_BYTES

_ROW_BYTES = 8
"""Tag and length of a row."""

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)


def page_of(
    found: Sequence[Row], size: int, convert: Callable[[Row], M]
) -> tuple[list[M], Sequence[Row]]:
    """Up to `size` of the rows as messages, and the row after which others follow, if there are any.

    A page has one row at least.
    """
    messages = fitting(found[:size], convert, LIST_BYTES) or list(map(convert, found[:1]))
    follow = len(messages) < len(found)
    return messages, found[len(messages) - 1 : len(messages)] if follow else ()


def fitting(rows: Iterable[Row], convert: Callable[[Row], M], room: int) -> list[M]:
    """The first rows as messages, as many as `room` bytes hold."""
    messages: list[M] = []
    for row in rows:
        message = convert(row)
        room -= message.ByteSize() + _ROW_BYTES
        if room < 0:
            break
        messages.append(message)
    return messages
