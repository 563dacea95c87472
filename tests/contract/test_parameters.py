"""The parameters of queues: what the contract says of them is what the server does."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from pandawn.queueconfig.v1 import parameter_options_pb2, parameters_pb2
from pandawn_server.domain.queues.queues import PARAMETERS, Parameter, Value
from pandawn_tools.queuefiles.oldnames import OLD_NAMES
from tests.contract.test_proto_rules import FILES

FIELDS = {
    field.name: field
    for field in parameters_pb2.QueueParameters.DESCRIPTOR.fields
    if field.GetOptions().HasExtension(parameter_options_pb2.parameter)
}
OLD_UNITS = {"", "MB", "s", "min"}
UNITS = {"", "bytes", "s", "cores", "HS23", "attempts", "jobs", "priorities", "pilots"}

each = pytest.mark.parametrize("name", FIELDS)


def options(name: str) -> parameter_options_pb2.ParameterOptions:
    found: parameter_options_pb2.ParameterOptions = (
        FIELDS[name].GetOptions().Extensions[parameter_options_pb2.parameter]
    )
    return found


def comment(name: str) -> str:
    """The comment of a field of `QueueParameters`."""
    (file,) = (f for f in FILES if f.name.endswith("queueconfig/v1/parameters.proto"))
    at = [message.name for message in file.message_type].index("QueueParameters")
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
    assert set(parameters_pb2.QueueParameters.DESCRIPTOR.fields_by_name) == set(FIELDS)


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


ROOT = Path(__file__).parents[2]
Reader = parameter_options_pb2.ParameterReader
CODE: Mapping[int, tuple[str, ...]] = {
    parameter_options_pb2.PARAMETER_READER_SERVER: ("server/pandawn_server",),
    parameter_options_pb2.PARAMETER_READER_PILOT: ("pilot_client/pandawn_pilot",),
    parameter_options_pb2.PARAMETER_READER_FACTORY: ("server/pandawn_factory",),
    parameter_options_pb2.PARAMETER_READER_BROKERAGE: ("server/pandawn_server",),
    parameter_options_pb2.PARAMETER_READER_DATA: ("server/pandawn_server",),
}
"""Where the code of a reader is; people have none."""

SAME_NAME_ELSEWHERE = frozenset({"pilot_version", "scratch_dir"})
"""Other things of the code have the name too: the version of a pilot, the directory of a pcache."""

NO_READING = ("storage/migrations/", "wire/queues/convert.py")
"""What carries parameters is no reader of them."""


# What code calls a queue or its parameters.
HOLDERS = ("queue", "parameters", "settings", "latest", "self")


@cache
def attributes_read(directory: str) -> frozenset[str]:
    """All names that code below a directory reads of what it calls a queue."""
    found: set[str] = set()
    for path in (ROOT / directory).rglob("*.py"):
        if any(part in path.as_posix() for part in NO_READING):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                held_by = node.value
                name = held_by.id if isinstance(held_by, ast.Name) else getattr(held_by, "attr", "")
                if name.endswith(HOLDERS):
                    found.add(node.attr)
    return frozenset(found)


def is_read(name: str, reader: int) -> bool:
    return any(name in attributes_read(directory) for directory in CODE[reader])


def test_what_carries_parameters_is_where_it_is_left_out() -> None:
    for part in NO_READING:
        assert (ROOT / "server/pandawn_server" / part).exists()


@each
def test_who_is_said_to_read_a_parameter_does(name: str) -> None:
    said = options(name)
    assert said.readers or said.planned_readers, "nobody reads it"
    for reader in said.readers:
        assert reader not in CODE or is_read(name, reader), Reader.Name(reader)


@each
def test_who_is_planned_to_read_a_parameter_does_not_yet(name: str) -> None:
    # When the code comes, it moves from the planned readers to the readers.
    for reader in options(name).planned_readers:
        assert name in SAME_NAME_ELSEWHERE or not is_read(name, reader), Reader.Name(reader)


def test_old_names_are_unique_but_where_one_value_meant_two_things() -> None:
    two_meanings = {"copytool", "ddm"}
    seen: dict[str, str] = {}
    for name in FIELDS:
        for old in OLD_NAMES.get(name, ()):
            assert old.unit in OLD_UNITS, f"{name}: {old.unit}"
            assert old.name not in seen or old.name in two_meanings, old.name
            seen[old.name] = name
    assert set(OLD_NAMES) <= set(FIELDS)
    # What pilots and brokerage of PanDA use.
    used = (
        "status maxrss minrss maxtime mintime maxinputsize maxwdir timefloor copytool copytoolin ddm "
        "releases cmtconfig appdir wntmpdir envsetup environ retry recoverdir glexec allowedNode "
        "localqueue jobmanager stageinretry stageoutretry corecount catchall cloud site"
    )
    assert set(used.split()) - set(seen) == set()
