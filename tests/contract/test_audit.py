"""The audit can say of each method that changes something what the call was about."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, MethodDescriptorProto

from pandawn_server.wire.edge.audit_subject import KNOWN_FIELDS
from pandawn_server.wire.edge.policies import POLICIES
from tests.contract.test_proto_rules import FILES

STREAMS_THAT_TELL = frozenset({"/pandawn.filecatalog.v1.FileCatalog/ReportInventory"})
"""Their servicers call `record_subject`: what the stream is about stands in its first message only."""


def messages() -> dict[str, DescriptorProto]:
    return {
        f".{file.package}.{message.name}": message
        for file in FILES
        for message in file.message_type
    }


def changing() -> dict[str, MethodDescriptorProto]:
    return {
        name: method
        for file in FILES
        for service in file.service
        for method in service.method
        # A method without a policy is the matter of another test.
        if (policy := POLICIES.get(name := f"/{file.package}.{service.name}/{method.name}"))
        and (policy.changes or policy.people_change)
    }


@pytest.mark.parametrize("name", sorted(changing()))
def test_a_change_names_what_it_changed(name: str) -> None:
    method, known = changing()[name], messages()
    fields = {field.name for field in known[method.output_type].field}
    if not method.client_streaming:
        fields |= {field.name for field in known[method.input_type].field}
    assert fields & KNOWN_FIELDS or name in STREAMS_THAT_TELL
