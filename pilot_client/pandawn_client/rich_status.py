"""Reads a google.rpc.Status without the googleapis package, which worker nodes need not install.

Its messages are built here in a separate pool, so that they do not conflict with others of the same name.
"""

from __future__ import annotations

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

# The fields that we read from google/rpc/status.proto and error_details.proto; protobuf skips others. With a
# type: repeated messages; without: a string.
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
    """The reason in a serialised Status, and the wrong fields with descriptions.

    Both may be empty; they are if `packed` is not a Status.
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
        pass  # not a Status, maybe of another server; the plain trailers remain
    return reason, violations


def _parsed(name: str, content: bytes) -> Message:
    return _MESSAGES[name].FromString(content)
