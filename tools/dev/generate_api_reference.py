"""Writes `docs/api.md` and `docs/parameters.md` from the contracts and their comments, or compares them.

generate_api_reference.py           write both
generate_api_reference.py --check   exit 1 if one differs from the contracts
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import cast

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

from dev.api_rules import OF_ANY_METHOD, rules
from pandawn.queueconfig.v1 import parameter_options_pb2
from pandawn_tools.queuefiles.oldnames import OLD_NAMES

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
REFERENCE = ROOT / "docs" / "api.md"
PARAMETERS = ROOT / "docs" / "parameters.md"

ERROR_LINE = re.compile(r"\* `([A-Z_]+)` \(([A-Z_, ]+)\): \S")
"""An error in the list of a method: status, and reasons with commas between them."""

Spot = tuple[int, ...]
Comments = Mapping[Spot, str]

# Numbers of the fields of descriptor.proto that make up the paths of its source locations.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _ENUM_VALUE, _SERVICE_METHOD = 2, 2, 2
_PACKAGE = 2


def descriptors() -> FileDescriptorSet:
    """The contracts with their comments, in the order of their names."""
    contracts = sorted(map(str, PROTO.rglob("*.proto")))
    with tempfile.NamedTemporaryFile(prefix="pandawn-api-") as out:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTO}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                "--include_source_info",
                f"--descriptor_set_out={out.name}",
                *contracts,
            ]
        )
        if status:
            raise SystemExit("protoc failed")
        return FileDescriptorSet.FromString(Path(out.name).read_bytes())


def _comments(file: FileDescriptorProto) -> Comments:
    return {
        tuple(location.path): "\n".join(
            line.removeprefix(" ") for line in location.leading_comments.rstrip().split("\n")
        )
        for location in file.source_code_info.location
        if location.leading_comments
    }


def reference() -> str:
    """The whole page."""
    found = list(descriptors().file)
    lines = [
        "# API reference",
        "",
        "Made by `make stubs` from the contracts in `proto/` and from tables of the server; mend it there.",
        "",
        "The wheel has the contracts too, beside the Python stubs: `protoc -I SITE_PACKAGES pandawn/.../*.proto`. For",
        "Go, Java, C# and TypeScript, `buf generate` makes clients with the examples in `buf.gen.yaml`.",
        "",
        *rules(*_said_of_methods(found)),
    ]
    for file in found:
        lines += _file(file)
    return "\n".join(lines).rstrip() + "\n"


def _said_of_methods(
    contracts: Sequence[FileDescriptorProto],
) -> tuple[list[str], dict[str, list[str]]]:
    """The methods that take a `request_id`, and by reason the methods that may give it."""
    takes = {m.name for f in contracts for m in f.message_type if _has_request_id(m)}
    with_request_id, reasons = [], dict[str, list[str]]()
    for file in contracts:
        comments = _comments(file)
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                name = f"{service.name}.{method.name}"
                if _short(method.input_type) in takes:
                    with_request_id.append(name)
                comment = comments.get((_FILE_SERVICE, s, _SERVICE_METHOD, m), "")
                for _, listed in ERROR_LINE.findall(comment):
                    for reason in set(listed.split(", ")) - OF_ANY_METHOD:
                        reasons.setdefault(reason, []).append(f"`{name}`")
    return with_request_id, reasons


def _has_request_id(message: DescriptorProto) -> bool:
    return any(field.name == "request_id" for field in message.field)


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = _comments(file)
    yield f"## {file.package}: {Path(file.name).name}"
    yield ""
    yield from _prose(comments.get((_PACKAGE,), ""))
    for s, service in enumerate(file.service):
        at = (_FILE_SERVICE, s)
        yield from (f"### service {service.name}", "", *_prose(comments.get(at, "")))
        for m, method in enumerate(service.method):
            into = ("stream " if method.client_streaming else "") + _short(method.input_type)
            out = ("stream " if method.server_streaming else "") + _short(method.output_type)
            yield from (f"#### {method.name}({into}) returns ({out})", "")
            yield from _prose(comments.get((*at, _SERVICE_METHOD, m), ""))
    for i, enum in enumerate(file.enum_type):
        yield from _enum(enum, (_FILE_ENUM, i), comments)
    for i, message in enumerate(file.message_type):
        yield from _message(message, (_FILE_MESSAGE, i), comments)


def _enum(enum: EnumDescriptorProto, at: Spot, comments: Comments) -> Iterator[str]:
    yield from (f"### enum {enum.name}", "", *_prose(comments.get(at, "")))
    yield from ("| number | name | meaning |", "|---|---|---|")
    for i, value in enumerate(enum.value):
        meaning = _cell(comments.get((*at, _ENUM_VALUE, i), ""))
        yield f"| {value.number} | `{value.name}` | {meaning} |"
    yield ""


def _message(message: DescriptorProto, at: Spot, comments: Comments) -> Iterator[str]:
    yield from (f"### message {message.name}", "", *_prose(comments.get(at, "")))
    if message.field:
        yield from ("| number | field | type | meaning |", "|---|---|---|---|")
    maps = {f".{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    for i, field in enumerate(message.field):
        meaning = _cell(comments.get((*at, _MESSAGE_FIELD, i), ""))
        yield f"| {field.number} | `{field.name}` | {_type(field, maps)} | {meaning} |"
    yield ""


def _type(field: FieldDescriptorProto, maps: Mapping[str, DescriptorProto]) -> str:
    for name, entry in maps.items():
        if field.type_name.endswith(name):
            key, value = entry.field
            return f"map of {_scalar(key)} to {_scalar(value)}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {_scalar(field)}"
    return f"optional {_scalar(field)}" if field.proto3_optional else _scalar(field)


def _scalar(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _short(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _prose(comment: str) -> Iterator[str]:
    if comment:
        yield from (*comment.split("\n"), "")


def _cell(comment: str) -> str:
    return " ".join(comment.split()).replace("|", r"\|")


def parameters() -> str:
    """The page of the parameters of queues, by group."""
    (file,) = (f for f in descriptors().file if f.name == "pandawn/queueconfig/v1/parameters.proto")
    at = [message.name for message in file.message_type].index("QueueParameters")
    comments, queue = _comments(file), file.message_type[at]
    rows: dict[int, list[str]] = {}
    for i, field in enumerate(queue.field):
        if field.options.HasExtension(parameter_options_pb2.parameter):
            options = field.options.Extensions[parameter_options_pb2.parameter]
            meaning = _cell(comments.get((_FILE_MESSAGE, at, _MESSAGE_FIELD, i), ""))
            rows.setdefault(options.group, []).append(
                f"| `{field.name}` | {_kind(field, options)} | {_bounds(options)} | {_readers(options)} "
                f"| {_old_names(field.name)} | {meaning} |"
            )
    lines = [
        "# Parameters of queues",
        "",
        "Made by `make stubs` from `proto/pandawn/queueconfig/v1/parameters.proto`; the old names are from",
        "`tools/pandawn_tools/queuefiles/oldnames.py`. Change it there. How parameters are set, and by whom, is in",
        "[queues.md](queues.md). Old names are those of schedconfig, AGIS and CRIC, with their units where these",
        "differ; `a.b` is `b` in the object `a`. `MB` is 1024 * 1024 bytes there. A reader in parentheses does not",
        "read the parameter yet: until it does, the parameter changes nothing.",
    ]
    for group, found in sorted(rows.items()):
        title = parameter_options_pb2.ParameterGroup.Name(
            cast("parameter_options_pb2.ParameterGroup.ValueType", group)
        )
        lines += ["", f"## {title.removeprefix('PARAMETER_GROUP_').capitalize()}", ""]
        lines += [
            "| parameter | type | bounds | read by | old names | meaning |",
            "|---|---|---|---|---|---|",
            *found,
        ]
    return "\n".join(lines) + "\n"


def _kind(field: FieldDescriptorProto, options: parameter_options_pb2.ParameterOptions) -> str:
    names = {"StringList": "list", "StringMap": "map", "Duration": "time", "QueueStatus": "word"}
    if field.type_name:
        return names.get(_short(field.type_name), "word")
    if options.unit == "bytes":
        return "size"
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return {"string": "text", "bool": "yes or no"}.get(kind, f"number of {options.unit}")


def _bounds(options: parameter_options_pb2.ParameterOptions) -> str:
    if not options.HasField("min"):
        return ""
    return f"{_amount(options.min, options.unit)} to {_amount(options.max, options.unit)}"


def _amount(number: int, unit: str) -> str:
    scales = {
        "bytes": ((2**60, "EiB"), (2**50, "PiB"), (2**30, "GiB"), (2**20, "MiB")),
        "s": ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")),
    }
    for size, name in scales.get(unit, ()):
        if number and number % size == 0:
            return f"{number // size:,} {name}"
    return f"{number:,}"


def _readers(options: parameter_options_pb2.ParameterOptions) -> str:
    words = [_reader(number) for number in options.readers]
    return ", ".join(words + [f"({_reader(number)})" for number in options.planned_readers])


def _reader(number: "parameter_options_pb2.ParameterReader.ValueType") -> str:
    name = parameter_options_pb2.ParameterReader.Name(number)
    return name.removeprefix("PARAMETER_READER_").lower()


def _old_names(parameter: str) -> str:
    names = OLD_NAMES.get(parameter, ())
    return ", ".join(f"`{old.name}`" + (f" ({old.unit})" if old.unit else "") for old in names)


def main(arguments: list[str]) -> int:
    """Write or check the pages and return the exit status."""
    pages = {REFERENCE: reference(), PARAMETERS: parameters()}
    status = 0
    for path, page in pages.items():
        if arguments != ["--check"]:
            path.write_text(page)
        elif not path.exists() or path.read_text() != page:
            print(f"{path.relative_to(ROOT)} is not what the contracts say; run `make stubs`")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
