"""Pages of lists: as many rows as were asked for, and no more than one message should hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

MAX_PAGE_BYTES = 3_500_000
"""Rows of one page together; most gRPC libraries take messages of 4 MiB. A page has one row at least."""

_ROW_BYTES = 8
"""Tag and length of a row."""

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)


def page_of(
    found: Sequence[Row], size: int, convert: Callable[[Row], M]
) -> tuple[list[M], Sequence[Row]]:
    """Up to `size` of the rows as messages, and the row after which others follow, if there are any."""
    messages: list[M] = []
    room = MAX_PAGE_BYTES
    for row in found[:size]:
        message = convert(row)
        room -= message.ByteSize() + _ROW_BYTES
        if room < 0 and messages:
            break
        messages.append(message)
    follow = len(messages) < len(found)
    return messages, found[len(messages) - 1 : len(messages)] if follow else ()
