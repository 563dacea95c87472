"""What a request or response is about, for its line of the audit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pandawn.queueconfig.v1 import document_pb2, queue_pb2
from pandawn_server.domain.access.audit import About, cleaned, joined

_NUMBERS = ("task_id", "job_id")
_NAMES = ("queue", "site", "node", "request_id")
# Fields that tell of things without a column of their own, and how they are called.
_THINGS = {
    "sandbox_id": "sandbox",
    "pilot_id": "pilot",
    "revision": "revision",
    "override_id": "override",
    "subject": "entry",
    "user": "user",
}
# Messages that say what the whole is about, by the field that holds them.
_NESTED = ("task", "job", "queue", "entry", "header")
# What the name of a document is the name of.
_DOCUMENTS = {
    document_pb2.DOCUMENT_KIND_QUEUE: {"name": "queue"},
    document_pb2.DOCUMENT_KIND_SITE: {"name": "site"},
}
KNOWN_FIELDS = frozenset({*_NUMBERS, *_NAMES, *_THINGS, *_NESTED}) - {"request_id", "user"}
"""Fields of which a method that changes something must have one, in its request or its response."""


def about(message: object) -> About:
    """What a request or response says of what its call is about."""
    if not isinstance(message, Message):
        # A stream has none.
        return About()
    found = _own(message, {})
    for field in _fields(message.DESCRIPTOR):
        if field.name in _NESTED and field.has_presence and message.HasField(field.name):
            value = getattr(message, field.name)
            if isinstance(value, queue_pb2.Queue):
                found = joined(found, _own(value, {"name": "queue"}))
                value = value.parameters
            found = joined(found, _own(value, {}))
    if isinstance(message, document_pb2.ApplyConfigRequest) and len(message.changes) == 1:
        (change,) = message.changes
        found = joined(found, _own(change, _DOCUMENTS.get(change.kind, {})))
    return found


def _own(message: Message, aliases: dict[str, str]) -> About:
    numbers: dict[str, int] = {}
    texts: dict[str, str] = {}
    thing = ""
    for field in _fields(message.DESCRIPTOR):
        name = aliases.get(field.name, field.name)
        value = getattr(message, field.name)
        if name in _NUMBERS and isinstance(value, int):
            # What is no number of ours is not stored as one.
            numbers[name] = max(0, value)
        elif name in _NAMES and isinstance(value, str):
            texts[name] = cleaned(value)
        elif name in _THINGS and isinstance(value, str | int) and value and not thing:
            thing = f"{_THINGS[name]} {cleaned(str(value))}"
    return About(
        task_id=numbers.get("task_id", 0),
        job_id=numbers.get("job_id", 0),
        queue=texts.get("queue", ""),
        site=texts.get("site", ""),
        node=texts.get("node", ""),
        thing=thing,
        request_id=texts.get("request_id", ""),
    )


def _fields(descriptor: object) -> Iterator[FieldDescriptor]:
    # The type stubs offer the C implementation beside the interface that both have.
    yield from cast("Descriptor", descriptor).fields
