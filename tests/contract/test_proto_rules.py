"""The contracts keep the rules that the linter of buf does not know."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile

import grpc
import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc

import pandawn_server
from dev.api_rules import OF_ANY_METHOD
from dev.generate_api_reference import ERROR_LINE
from pandawn_server.domain.errors import Code
from pandawn_server.wire.services import SERVICERS

ROOT = Path(__file__).parents[2]
SERVER = Path(pandawn_server.__file__).parent

AT_START_ONLY = frozenset({"BAD_DATABASE_URL", "SCHEMA_OUTDATED", "BAD_CATALOG_URL", "NO_DATABASE"})
"""Reasons that operators see and callers never do."""


def compiled() -> list[FileDescriptorProto]:
    """All contracts with their comments."""
    protos = sorted((ROOT / "proto").rglob("*.proto"))
    with NamedTemporaryFile() as out:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT / 'proto'}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                "--include_source_info",
                f"--descriptor_set_out={out.name}",
                *map(str, protos),
            ]
        )
        assert status == 0
        return list(FileDescriptorSet.FromString(Path(out.name).read_bytes()).file)


FILES = compiled()


@dataclass(frozen=True)
class Rpc:
    """One method with its comment."""

    service: str
    method: MethodDescriptorProto
    comment: str

    @property
    def name(self) -> str:
        return f"{self.service}/{self.method.name}"


def rpcs() -> Iterator[Rpc]:
    for file in FILES:
        # Paths in a file: 6 is its services, 2 in those their methods.
        comments = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
        }
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                yield Rpc(f"{file.package}.{service.name}", method, comments.get((6, i, 2, j), ""))


def messages() -> Iterator[DescriptorProto]:
    for file in FILES:
        for message in file.message_type:
            yield message
            yield from message.nested_type


def fields() -> Iterator[tuple[DescriptorProto, FieldDescriptorProto]]:
    for message in messages():
        if not message.options.map_entry:
            for field in message.field:
                yield message, field


def enums() -> Iterator[EnumDescriptorProto]:
    for file in FILES:
        yield from file.enum_type
    for message in messages():
        yield from message.enum_type


RPCS = list(rpcs())
each_rpc = pytest.mark.parametrize("rpc", RPCS, ids=[rpc.name for rpc in RPCS])


def reasons_in(rpc: Rpc) -> set[str]:
    return {
        reason
        for _, reasons in ERROR_LINE.findall(rpc.comment)
        for reason in reasons.replace(" ", "").split(",")
    }


@each_rpc
def test_every_rpc_lists_its_errors_with_code_and_reason(rpc: Rpc) -> None:
    assert re.search(r"^ Errors\b.*:$", rpc.comment, re.MULTILINE), "no list of errors"
    listed = [line.strip() for line in rpc.comment.splitlines() if line.strip().startswith("* ")]
    assert listed
    for line in listed:
        found = ERROR_LINE.match(line)
        assert found, f"not `* `CODE` (REASON): what to do`: {line}"
        assert found[1] in {code.value for code in Code}
        assert len(re.findall(r"`[A-Z_]+` \(", line)) == 1, f"two errors in one line: {line}"


@each_rpc
def test_requests_and_responses_are_named_after_their_rpc_and_used_once(rpc: Rpc) -> None:
    package = rpc.service.rpartition(".")[0]
    name = f".{package}.{rpc.method.name}"
    assert (rpc.method.input_type, rpc.method.output_type) == (f"{name}Request", f"{name}Response")


@each_rpc
def test_every_rpc_is_implemented(rpc: Rpc) -> None:
    servicer = SERVICERS[rpc.service]
    # A servicer may be put together from several classes; the one that gRPC generates answers nothing.
    own = getattr(servicer, rpc.method.name)
    assert own.__module__.startswith("pandawn_server."), f"{servicer.__name__} inherits it"


@each_rpc
def test_lists_are_paged_from_the_first_day(rpc: Rpc) -> None:
    if not rpc.method.name.startswith("List"):
        return
    by_name = {message.name: {field.name for field in message.field} for message in messages()}
    assert {"page_size", "page_token"} <= by_name[f"{rpc.method.name}Request"]
    assert "next_page_token" in by_name[f"{rpc.method.name}Response"]


def test_the_server_has_no_service_without_a_contract() -> None:
    assert set(SERVICERS) == {rpc.service for rpc in RPCS}


def test_every_enum_begins_with_an_unspecified_zero() -> None:
    for enum in enums():
        zero = enum.value[0]
        screaming = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper()
        assert (zero.number, zero.name) == (0, f"{screaming}_UNSPECIFIED")


def test_fields_say_what_they_measure() -> None:
    kinds = FieldDescriptorProto
    for message, field in fields():
        where = f"{message.name}.{field.name}"
        if field.type_name == ".google.protobuf.Timestamp":
            assert field.name.endswith("_time"), where
        if field.name.endswith("_bytes") or field.name == "bytes":
            assert field.type == kinds.TYPE_INT64, where
        if re.search(r"_(ms|secs?|seconds|mb|kb|size)$", field.name) and field.name != "page_size":
            assert field.name == "cpu_seconds", f"{where}: spans are Duration, sizes are bytes"


def reasons_of_the_server() -> dict[str, str]:
    """Each reason that the server's code gives an error, and a file that does."""
    found: dict[str, str] = {}
    for path in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            values = [*node.args[:2], *(keyword.value for keyword in node.keywords)]
            if name.endswith("Error") or name in {"of", "done"}:
                for value in values:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        text = value.value
                        if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", text):
                            found[text] = str(path.relative_to(SERVER))
    return found


def test_every_reason_that_the_server_gives_is_in_a_contract() -> None:
    documented = {reason for rpc in RPCS for reason in reasons_in(rpc)}
    unknown = {
        reason: path
        for reason, path in reasons_of_the_server().items()
        if reason not in documented | AT_START_ONLY | OF_ANY_METHOD
    }
    assert not unknown


def test_every_reason_in_a_contract_is_given_by_the_server() -> None:
    sources = "".join(path.read_text() for path in SERVER.rglob("*.py"))
    promised = {reason for rpc in RPCS for reason in reasons_in(rpc)}
    assert {reason for reason in promised if f'"{reason}"' not in sources} == set()


def test_every_code_in_use_is_a_grpc_code() -> None:
    assert {code.value for code in Code} <= {code.name for code in grpc.StatusCode}
