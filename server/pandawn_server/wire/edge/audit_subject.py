"""Finds what a request or response is about, for its audit record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pandawn.queueconfig.v1 import document_pb2, queue_pb2
from pandawn_server.domain.access.audit import About, cleaned, joined

_NUMBERS = ("task_id", "job_id")
_NAMES = ("queue", "site", "node", "request_id")
# Fields that name things without a column of their own, and the word for each.
_THINGS = {
    "sandbox_id": "sandbox",
    "pilot_id": "pilot",
    "revision": "revision",
    "override_id": "override",
    "subject": "entry",
    "user": "user",
}
# Fields that hold the message which the whole call is about.
_NESTED = ("task", "job", "queue", "entry", "header")
# What the name of a document stands for, by kind.
_DOCUMENTS = {
    document_pb2.DOCUMENT_KIND_QUEUE: {"name": "queue"},
    document_pb2.DOCUMENT_KIND_SITE: {"name": "site"},
}
KNOWN_FIELDS = frozenset({*_NUMBERS, *_NAMES, *_THINGS, *_NESTED}) - {"request_id", "user"}
"""Each method that changes something must have one of these fields in its request or response."""


def about(message: object) -> About:
    """What a request or response shows about the subject of its call."""
    if not isinstance(message, Message):
        # Streams have no single message.
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
            # A negative number is never an identifier of ours.
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
    # Per the type stubs it could be the C implementation, which has the same interface.
    yield from cast("Descriptor", descriptor).fields
