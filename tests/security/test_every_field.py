"""Every field of every method, spoilt in every way we know: the server says no, or takes it as mere text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pandawn.broker.v1.broker_pb2 import SubmitTaskRequest
from tests.fixtures import nasty
from tests.fixtures.besieged import ANSWERS, Answer, Besieged, new_request_id
from tests.fixtures.messages import (
    STRING,
    Method,
    Path,
    is_map,
    methods,
    places,
    sound,
    spoilt,
)

METHODS = methods()
MARK = "MARKER"
# Streams of archives, and of inputs that are not where a lone task has them; and whole queues, of which a value for
# each parameter is never sound: they are refused by their checks, beyond which their fields are not tried here.
NEVER_SOUND = frozenset(
    {"SubmitLargeTask", "UploadSandbox", "ApplyConfig", "SetOverride", "ClearOverride"}
)
# What comes past no check reaches no database: one pair of backends shows it as well as two.
ON_ONE = pytest.mark.parametrize("besieged", ["sqlite+memory"], indirect=True)


def name_of(method: Method) -> str:
    return str(method.descriptor.name)


SOUND = [method for method in METHODS if name_of(method) not in NEVER_SOUND]


def sound_request(besieged: Besieged, method: Method) -> Message:
    known = dict(besieged.known())
    name = name_of(method)
    if name == "GetQueue":
        known["name"] = "Q1"
    request = sound(method.descriptor.input_type, known)
    if isinstance(request, SubmitTaskRequest):
        request.task.dataset = f"user.anna.{new_request_id()}"
    return request


def values_for(field: FieldDescriptor) -> Iterator[object]:
    if field.type == STRING or is_map(field):
        yield from nasty.TEXTS
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield from (text.encode() for text in nasty.TEXTS)
        yield from nasty.NOT_UTF8
    elif field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        yield from nasty.REALS
    elif field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
        yield from nasty.NUMBERS


def judged(answer: Answer, method: Method, path: Path, value: object) -> None:
    what = f"{method.path} {'.'.join(path)}={value!r:.80}: {answer.code} {answer.text}"
    assert answer.code in ANSWERS, what
    # A reader's terminal is not the attacker's.
    unfit = [c for c in answer.text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]
    assert not unfit, what


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_a_sound_request_comes_past_the_checks(besieged: Besieged, method: Method) -> None:
    answer = besieged.call(method, sound_request(besieged, method))
    if method in SOUND:
        assert answer.code is not grpc.StatusCode.INVALID_ARGUMENT, answer.text
    assert answer.code in ANSWERS, answer.text


def spoil_every_field(besieged: Besieged, method: Method) -> None:
    for path, field in places(method.descriptor.input_type):
        base = sound_request(besieged, method)
        for value in values_for(field):
            try:
                request = spoilt(base, path, value)
            except ValueError:
                continue  # not a number of this type
            judged(besieged.call(method, request), method, path, value)
    besieged.check_unharmed()


@pytest.mark.parametrize("method", SOUND, ids=name_of)
def test_no_value_of_a_field_does_harm(besieged: Besieged, method: Method) -> None:
    spoil_every_field(besieged, method)


@ON_ONE
@pytest.mark.parametrize(
    "method", [method for method in METHODS if method not in SOUND], ids=name_of
)
def test_no_value_of_a_field_does_harm_where_the_others_are_refused_already(
    besieged: Besieged, method: Method
) -> None:
    spoil_every_field(besieged, method)


@ON_ONE
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_text_that_is_not_utf8_is_refused_in_every_field(
    besieged: Besieged, method: Method
) -> None:
    base = sound_request(besieged, method)
    for path, field in places(method.descriptor.input_type):
        if field.type != STRING and not is_map(field):
            continue
        raw = spoilt(base, path, MARK).SerializeToString()
        for value in nasty.NOT_UTF8:
            answer = besieged.call(method, raw.replace(MARK.encode(), value))
            assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, (path, answer)
    besieged.check_unharmed()
