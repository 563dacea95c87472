"""Pages of lists: at most the requested number of rows, and at most what one message may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from pandawn_server.domain.dispatch.reply_size import LIST_BYTES

_ROW_BYTES = 8
"""Size of a row's tag and length."""

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)


def page_of(
    found: Sequence[Row], size: int, convert: Callable[[Row], M]
) -> tuple[list[M], Sequence[Row]]:
    """Up to `size` rows as messages, and the last of these rows if more follow.

    A page has at least one row.
    """
    messages = fitting(found[:size], convert, LIST_BYTES) or list(map(convert, found[:1]))
    follow = len(messages) < len(found)
    return messages, found[len(messages) - 1 : len(messages)] if follow else ()


def fitting(rows: Iterable[Row], convert: Callable[[Row], M], room: int) -> list[M]:
    """As many of the first rows as fit in `room` bytes, as messages."""
    messages: list[M] = []
    for row in rows:
        message = convert(row)
        room -= message.ByteSize() + _ROW_BYTES
        if room < 0:
            break
        messages.append(message)
    return messages
