"""JSON output: the messages of the API with their field names.

All fields are printed, unset ones as null. Sizes and counts of 64 bits are numbers. `fixed64` values
(epochs, digests) are decimal strings, because many JSON readers would round them. Enums are their
names in the API, times are RFC 3339 in UTC, durations are seconds such as `"15s"`. The parameters of
a queue are beside its name and version, as in the tables.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pandawn_tools.cli.render import end_on_broken_pipe

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_QUEUE = "pandawn.queueconfig.v1.Queue"
# What the contracts had to call otherwise, for the sake of other languages. Scripts know it by these names.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "pandawn.broker.v1.Attempt": {
        "number": "attempt",
        "job_match": "match",
        "resource_use": "use",
    },
    "pandawn.broker.v1.ExplainJobResponse": {"job_match": "match"},
    "pandawn.monitor.v1.Node": {"name": "node"},
    "pandawn.queueconfig.v1.Revision": {"number": "revision"},
}
_OPAQUE_TYPES = frozenset({FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_UINT64})


def message_json(message: Message) -> dict[str, Json]:
    """Returns the message as a JSON object with the field names of the API."""
    # The type stubs offer the C implementation beside the interface that both have.
    fields = cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields)
    names = _NAMES.get(message.DESCRIPTOR.full_name, {})
    found = {names.get(field.name, field.name): _field(message, field) for field in fields}
    if message.DESCRIPTOR.full_name == _QUEUE:
        parameters = found.pop("parameters")
        return found | (parameters if isinstance(parameters, dict) else {})
    return found


def _field(message: Message, field: FieldDescriptor) -> Json:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if isinstance(value, Mapping):
        return {str(key): _value(value[key], None) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_value(item, field) for item in value]
    return _value(value, field)


def _value(value: object, field: FieldDescriptor | None) -> Json:
    if isinstance(value, Timestamp | Duration):
        return value.ToJsonString()
    if isinstance(value, Message):
        return message_json(value)
    if field is not None and field.enum_type is not None and isinstance(value, int):
        known = field.enum_type.values_by_number.get(value)
        # A newer server may have values that this program does not know.
        return known.name if known is not None else value
    if field is not None and field.type in _OPAQUE_TYPES:
        return str(value)
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"no JSON for a field of type {type(value).__name__}")


def print_json(value: Json) -> None:
    """Prints one JSON value to standard output, indented."""
    _write(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Json) -> None:
    """Prints one JSON value on one line and flushes it, for streams."""
    _write(json.dumps(value, ensure_ascii=False))


def print_messages(messages: Iterable[Message]) -> None:
    """Prints messages as a JSON list."""
    print_json([message_json(message) for message in messages])


def _write(text: str) -> None:
    try:
        # A name that is not UTF-8 must not make a listing fail.
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        end_on_broken_pipe()
    except UnicodeEncodeError:
        sys.stdout.write(json.dumps(json.loads(text), ensure_ascii=True) + "\n")
        sys.stdout.flush()
