"""Reads a google.rpc.Status without the package that has its messages, which no worker node needs.

Its three messages are built here, in a pool of their own: so they meet no others of the same name.
"""

from __future__ import annotations

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

# The fields that are read, of google/rpc/status.proto and error_details.proto; protobuf skips the others. A type:
# repeated messages; without one: a text.
_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Status": (("details", 3, ".google.protobuf.Any"),),
    "ErrorInfo": (("reason", 1, ""),),
    "FieldViolation": (("field", 1, ""), ("description", 2, "")),
    "BadRequest": (("field_violations", 1, ".google.rpc.FieldViolation"),),
}


def _make_messages() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="pandawn_client/rich_status.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name],
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            described = message.field.add(name=field, number=number)
            described.label = described.LABEL_OPTIONAL
            described.type = described.TYPE_STRING
            if kind:
                described.label = described.LABEL_REPEATED
                described.type = described.TYPE_MESSAGE
                described.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    any_file = descriptor_pb2.FileDescriptorProto()
    any_pb2.DESCRIPTOR.CopyToProto(any_file)
    pool.Add(any_file)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
        for name in _FIELDS
    }


_MESSAGES = _make_messages()


def read_details(packed: bytes) -> tuple[str, list[tuple[str, str]]]:
    """The reason in a serialised Status, and the wrong fields with what is wrong with each.

    Both may be empty, as they are for what is no Status.
    """
    reason, violations = "", []
    try:
        status = _MESSAGES["Status"].FromString(packed)
        for detail in getattr(status, "details"):  # noqa: B009 (known at run time only)
            name = detail.type_url.rpartition("/")[2]
            if name == "google.rpc.ErrorInfo":
                reason = str(getattr(_parsed("ErrorInfo", detail.value), "reason"))  # noqa: B009
            elif name == "google.rpc.BadRequest":
                found = getattr(_parsed("BadRequest", detail.value), "field_violations")  # noqa: B009
                violations += [(each.field, each.description) for each in found]
    except DecodeError:
        pass  # another server's idea of the key; the plain trailers still speak
    return reason, violations


def _parsed(name: str, content: bytes) -> Message:
    return _MESSAGES[name].FromString(content)
