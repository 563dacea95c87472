"""Finds fields of a request that this server does not know.

gRPC passes over them in silence. Every method refuses them instead: something asked for would not happen, or a list
would have what its filter excludes. `handlers` looks at each request once, before its servicer sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

MAX_SHOWN = 50
"""Places that are looked for. Whoever is to mend a request needs few; who sends millions, none."""

_MAX_LOOKS = 10_000
# Said of fields that lie deeper in a large request than it is worth to look.
_SOMEWHERE = "some field of an item"


def drop_unknown_fields(request: Message) -> bool:
    """Drops unknown fields, at any depth; returns whether there were some."""
    # In C, and without a copy: of requests of 32 MiB that would be felt.
    size = request.ByteSize()
    request.DiscardUnknownFields()
    return request.ByteSize() != size


def unknown_fields(request: Message) -> list[str]:
    """Places of unknown fields, as `field 9`, or `files[3] field 9` in a message within; of many the first ones."""
    looked = islice(_search(request, ""), _MAX_LOOKS)
    found = (f"{path} field {number}".strip() for path, number in looked if number)
    # Each place once, whoever repeats a field a million times.
    return list(dict.fromkeys(islice(found, MAX_SHOWN))) or [_SOMEWHERE]


def _search(message: Message, path: str) -> Iterator[tuple[str, int]]:
    """The places, and with number 0 each message that was looked at: it counts as a look."""
    yield path, 0
    unknown = UnknownFieldSet(message)
    for at in range(min(len(unknown), MAX_SHOWN)):
        yield path, unknown[at].field_number
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            # Maps of our contracts hold texts.
            continue
        place = f"{path}.{field.name}" if path else field.name
        if isinstance(value, Message):
            yield from _search(value, place)
        else:
            for position, item in enumerate(value):
                yield from _search(item, f"{place}[{position}]")
