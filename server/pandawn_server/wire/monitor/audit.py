"""Converts lines of the audit to messages."""

from __future__ import annotations

from pandawn.monitor.v1 import audit_pb2
from pandawn_server.domain.access.audit import NumberedRecord
from pandawn_server.wire.edge.values import to_timestamp


def to_line(line: NumberedRecord) -> audit_pb2.AuditRecord:
    """The message of a line."""
    record, on = line.record, line.record.about
    return audit_pb2.AuditRecord(
        audit_id=line.audit_id,
        audit_time=to_timestamp(record.time),
        user=record.user,
        subject=record.subject,
        method=record.method,
        rule=record.rule,
        peer=record.peer,
        rpc=record.rpc,
        task_id=on.task_id,
        job_id=on.job_id,
        queue=on.queue,
        site=on.site,
        node=on.node,
        thing=on.thing,
        request_id=on.request_id,
        code=record.code,
        reason=record.reason,
        text=record.text,
        call_count=record.count,
    )
