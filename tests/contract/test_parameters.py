"""The parameters of queues: what the contract says of them is what the server does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum

import pytest
from google.protobuf.descriptor import FieldDescriptor

from pandawn.queueconfig.v1 import parameter_options_pb2, queueconfig_pb2
from pandawn_server.domain.queues.queues import PARAMETERS, Parameter, Value
from tests.contract.test_proto_rules import FILES

FIELDS = {
    field.name: field
    for field in queueconfig_pb2.Queue.DESCRIPTOR.fields
    if field.GetOptions().HasExtension(parameter_options_pb2.parameter)
}
OF_THE_DOCUMENT = {"name", "etag", "update_time", "revision"}
ALIAS_UNITS = {"", "MB", "s", "min"}
UNITS = {"", "bytes", "s", "cores", "HS23", "attempts", "jobs", "priorities", "pilots"}

each = pytest.mark.parametrize("name", FIELDS)


def options(name: str) -> parameter_options_pb2.ParameterOptions:
    found: parameter_options_pb2.ParameterOptions = (
        FIELDS[name].GetOptions().Extensions[parameter_options_pb2.parameter]
    )
    return found


def comment(name: str) -> str:
    """The comment of a field of `Queue`."""
    (file,) = (f for f in FILES if f.name.endswith("queueconfig/v1/queueconfig.proto"))
    at = [message.name for message in file.message_type].index("Queue")
    fields = [field.name for field in file.message_type[at].field]
    # 4: the messages of a file, 2: the fields of a message.
    path = (4, at, 2, fields.index(name))
    (location,) = (loc for loc in file.source_code_info.location if tuple(loc.path) == path)
    return " ".join(location.leading_comments.split())


def kind(field: FieldDescriptor) -> type:
    """The type that the domain should have."""
    if field.message_type is not None:
        named: dict[str, type] = {"Duration": timedelta, "StringList": tuple, "StringMap": Mapping}
        return named[field.message_type.name]
    if field.enum_type is not None:
        return Enum
    plain: dict[int, type] = {
        FieldDescriptor.TYPE_STRING: str,
        FieldDescriptor.TYPE_INT32: int,
        FieldDescriptor.TYPE_INT64: int,
        FieldDescriptor.TYPE_DOUBLE: float,
        FieldDescriptor.TYPE_BOOL: bool,
    }
    return plain[field.type]


def as_text(value: Value) -> str:
    """A default as the contract writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f}"
    if isinstance(value, float):
        return f"{value:.0f}"
    if isinstance(value, Enum):
        return str(value.value)
    return str(value) if isinstance(value, (str, int)) else ",".join(value)


def number(value: object) -> int:
    return int(value.total_seconds() if isinstance(value, timedelta) else value)  # type: ignore[call-overload,no-any-return]


def test_the_domain_has_the_parameters_of_the_contract() -> None:
    assert set(FIELDS) == set(PARAMETERS)
    assert set(queueconfig_pb2.Queue.DESCRIPTOR.fields_by_name) - set(FIELDS) == OF_THE_DOCUMENT


@each
def test_a_parameter_has_the_type_default_and_bounds_that_the_contract_says(name: str) -> None:
    said, field = options(name), FIELDS[name]
    parameter: Parameter = PARAMETERS[name]
    expected = kind(field)
    assert parameter.type is expected or (expected is Enum and issubclass(parameter.type, Enum)), (
        "type"
    )
    assert as_text(parameter.default) == said.default_value
    if parameter.bounds is None:
        assert not said.HasField("min")
        assert not said.HasField("max")
        assert parameter.type not in {int, float, timedelta}, "a number without bounds"
    else:
        assert (number(parameter.bounds.low), number(parameter.bounds.high)) == (said.min, said.max)


@each
def test_a_parameter_can_be_unset(name: str) -> None:
    assert FIELDS[name].has_presence


@each
def test_a_parameter_has_a_group_a_unit_and_a_sentence_with_its_default(name: str) -> None:
    said = options(name)
    assert said.group != parameter_options_pb2.PARAMETER_GROUP_UNSPECIFIED
    assert said.unit in UNITS
    assert bool(said.unit) == said.HasField("min")
    assert re.fullmatch(r"[A-Z].*\bDefault: .+\.", comment(name)), comment(name)


def test_old_names_are_unique_but_where_one_value_meant_two_things() -> None:
    two_meanings = {"copytool", "ddm"}
    seen: dict[str, str] = {}
    for name in FIELDS:
        for alias in options(name).aliases:
            assert alias.unit in ALIAS_UNITS, f"{name}: {alias.unit}"
            assert alias.name not in seen or alias.name in two_meanings, alias.name
            seen[alias.name] = name
    # What pilots and brokerage of PanDA use.
    used = (
        "status maxrss minrss maxtime mintime maxinputsize maxwdir timefloor copytool copytoolin ddm "
        "releases cmtconfig appdir wntmpdir envsetup environ retry recoverdir glexec allowedNode "
        "countrygroup localqueue jobmanager stageinretry stageoutretry corecount catchall cloud site"
    )
    assert set(used.split()) - set(seen) == set()
