"""Finds fields of a request that this server does not know.

gRPC ignores them silently. Every method rejects them instead: otherwise part of the request would not be done, or a
list would contain what its filter excludes. `handlers` checks each request once, before its servicer sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

MAX_SHOWN = 50
"""Maximum fields to report: nobody needs more to fix a request, and an attacker may send millions."""

_MAX_LOOKS = 10_000
# Reported for fields too deep in a large request to be worth the search.
_SOMEWHERE = "some field of an item"


def drop_unknown_fields(request: Message) -> bool:
    """Drops unknown fields at any depth; returns whether there were any."""
    # In C and without a copy, which matters for requests of 32 MiB.
    size = request.ByteSize()
    request.DiscardUnknownFields()
    return request.ByteSize() != size


def unknown_fields(request: Message) -> list[str]:
    """Names of unknown fields: `field 9`, or `files[3] field 9` in a nested message; the first ones if many."""
    looked = islice(_search(request, ""), _MAX_LOOKS)
    found = (f"{path} field {number}".strip() for path, number in looked if number)
    # Each name once, even if a field is repeated a million times.
    return list(dict.fromkeys(islice(found, MAX_SHOWN))) or [_SOMEWHERE]


def _search(message: Message, path: str) -> Iterator[tuple[str, int]]:
    """Yields the fields, and each visited message with number 0, so that visits can be limited."""
    yield path, 0
    unknown = UnknownFieldSet(message)
    for at in range(min(len(unknown), MAX_SHOWN)):
        yield path, unknown[at].field_number
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            # Maps in our contracts hold only texts.
            continue
        place = f"{path}.{field.name}" if path else field.name
        if isinstance(value, Message):
            yield from _search(value, place)
        else:
            for position, item in enumerate(value):
                yield from _search(item, f"{place}[{position}]")
