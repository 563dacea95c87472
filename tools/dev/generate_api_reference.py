"""Writes `docs/api.md` from the contracts and their comments, or compares it.

generate_api_reference.py           write docs/api.md
generate_api_reference.py --check   exit 1 if docs/api.md is not what the contracts say
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
REFERENCE = ROOT / "docs" / "api.md"

_GATE = (
    "* `UNAUTHENTICATED` (CREDENTIALS_REQUIRED): nothing shows who calls; the message says what the address takes.",
    "* `UNAUTHENTICATED` (ADDRESS_UNKNOWN): a proxy did not say for whom it speaks.",
    "* `UNAUTHENTICATED` (SESSION_REQUIRED): the method wants a session token in the metadata as `pandawn-session`.",
    "* `UNAUTHENTICATED` (SESSION_EXPIRED): register again with the same `request_id`, or open another session.",
    "* `UNAUTHENTICATED` (SESSION_ENDED, SESSION_INVALID): the pilot has ended or the token is bad; register anew.",
    "* `UNAUTHENTICATED` (TOKEN_EXPIRED, TOKEN_NOT_YET_VALID, CERTIFICATE_EXPIRED): show one that is good now.",
    "* `UNAUTHENTICATED` (TOKEN_MALFORMED, TOKEN_PROFILE_UNKNOWN, BAD_SIGNATURE, ALGORITHM_NOT_ALLOWED,",
    "  UNKNOWN_ISSUER, UNKNOWN_KEY, WRONG_AUDIENCE): the token is not one that this server takes.",
    "* `UNAUTHENTICATED` (CERTIFICATE_INVALID, CERTIFICATE_REVOKED, PROXY_INVALID, REVOCATION_LIST_EXPIRED): the",
    "  certificate is not one that this server takes.",
    "* `PERMISSION_DENIED` (NOT_ADMITTED, NO_USER_NAME, USER_NAME_TAKEN): no admission rule names the caller.",
    "* `PERMISSION_DENIED` (LIMITED_PROXY): it may not start work with a limited proxy; show a full one.",
    "* `PERMISSION_DENIED` (ROLE_MISSING, SCOPE_MISSING): the caller is known and the method not for it; do not retry.",
)
"""What the server answers whatever the method: no comment of a contract could say it better."""

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
    lines = [
        "# API reference",
        "",
        "Made by `make stubs` from the contracts in `proto/`; mend it there. Every method may also answer",
        "`INTERNAL` (INTERNAL_ERROR) with an incident number that the server's log has too.",
        "",
        "Before a method begins, its caller is let in or not:",
        "",
        *_GATE,
        "",
    ]
    for file in descriptors().file:
        lines += _file(file)
    return "\n".join(lines).rstrip() + "\n"


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


def main(arguments: list[str]) -> int:
    """Write or check the page and return the exit status."""
    page = reference()
    if arguments != ["--check"]:
        REFERENCE.write_text(page)
        return 0
    if REFERENCE.exists() and REFERENCE.read_text() == page:
        return 0
    print("docs/api.md is not what the contracts say; run `make stubs`")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
