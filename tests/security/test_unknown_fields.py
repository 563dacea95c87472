"""What a server does not know it refuses, whatever the method and however deep: nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from tests.fixtures.besieged import Besieged
from tests.fixtures.messages import Method, Path, is_map, methods, sound

METHODS = methods()
# Field 1023, a number: no contract has so many.
UNKNOWN_FIELD = b"\xf8\x3f\x01"
TOLD = "field 1023: is unknown to this server"
ON_ONE = pytest.mark.parametrize("besieged", ["sqlite+memory"], indirect=True)


def name_of(method: Method) -> str:
    return str(method.descriptor.name)


def holders(kind: Descriptor, above: Path = ()) -> Iterator[Path]:
    """The request itself and all messages below it; no contract holds a message within itself."""
    yield above
    for field in kind.fields:
        if field.message_type is not None and not is_map(field):
            yield from holders(field.message_type, (*above, field.name))


def with_unknown(request: Message, path: Path) -> Message:
    """A copy with a field that nobody knows in the message at that place."""
    copy = type(request)()
    copy.CopyFrom(request)
    holder: Any = copy
    for name in path:
        holder = getattr(holder, name)
        if hasattr(holder, "add"):
            holder = holder[0] if len(holder) else holder.add()
    holder.MergeFromString(UNKNOWN_FIELD)
    return copy


@ON_ONE
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_an_unknown_field_is_refused_wherever_it_stands(besieged: Besieged, method: Method) -> None:
    request = sound(method.descriptor.input_type, besieged.known())
    for path in holders(method.descriptor.input_type):
        answer = besieged.call(method, with_unknown(request, path))
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, (path, answer)
        assert TOLD in answer.text, (path, answer)
        assert all(name in answer.text for name in path), (path, answer)


@ON_ONE
def test_what_is_no_method_of_ours_may_have_fields_that_are_not_known(besieged: Besieged) -> None:
    # Health and reflection come from gRPC, with clients of any age.
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = besieged.channel.unary_unary(
        "/grpc.health.v1.Health/Check"
    )
    assert check(UNKNOWN_FIELD, timeout=30.0)
