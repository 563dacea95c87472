"""Finds fields of a request that this server does not know.

gRPC passes over them in silence; where that would mean that something asked for does not happen,
the request is refused instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def unknown_fields(request: Message) -> list[str]:
    """Places of unknown fields, as `field 9`, or `files[3] field 9` in a message within."""
    # In C, and enough for all requests but those of another version.
    known = type(request)()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    if known.ByteSize() == request.ByteSize():
        return []
    return [f"{path} field {number}".strip() for path, number in _search(request, "")]


def _search(message: Message, path: str) -> Iterator[tuple[str, int]]:
    unknown = UnknownFieldSet(message)
    for number in sorted({unknown[at].field_number for at in range(len(unknown))}):
        yield path, number
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        place = f"{path}.{field.name}" if path else field.name
        if isinstance(value, Message):
            yield from _search(value, place)
        else:
            for position, item in enumerate(value):
                yield from _search(item, f"{place}[{position}]")
