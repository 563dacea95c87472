"""Queues: settings in, effective queues out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pandawn.queueconfig.v1 import queueconfig_pb2
from pandawn_server.domain.queues import BOUNDS, SETTING_NAMES, Queue, QueueSettings
from pandawn_server.wire.convert.common import to_duration, to_timestamp
from pandawn_server.wire.convert.enums import QUEUE_STATUS
from pandawn_server.wire.validation import Checker

_SPANS = ("max_wall_time", "lease_duration", "locality_wait")


def to_queue(queue: Queue) -> queueconfig_pb2.Queue:
    """A queue with every parameter set."""
    return queueconfig_pb2.Queue(
        name=queue.name,
        site=queue.site,
        cloud=queue.cloud,
        status=QUEUE_STATUS.to_wire(queue.status),
        max_input_bytes=queue.max_input_bytes,
        max_work_dir_bytes=queue.max_work_dir_bytes,
        max_wall_time=to_duration(queue.max_wall_time),
        memory_bytes=queue.memory_bytes,
        cores=queue.cores,
        storage_root=queue.storage_root,
        lease_duration=to_duration(queue.lease_duration),
        locality_wait=to_duration(queue.locality_wait),
        priority_band=queue.priority_band,
        etag=queue.etag,
        update_time=to_timestamp(queue.update_time),
    )


def settings_given(message: queueconfig_pb2.Queue) -> list[str]:
    """The parameters that are set in a message."""
    return [name for name in SETTING_NAMES if message.HasField(name)]  # type: ignore[arg-type]


def from_queue(check: Checker, message: queueconfig_pb2.Queue) -> QueueSettings:
    """The parameters that are set in a message, checked but for the bounds, which the domain knows."""
    check.queue("queue.name", message.name)
    values: dict[str, Any] = {name: getattr(message, name) for name in settings_given(message)}
    check.site("queue.site", message.site, required=False)
    check.name("queue.cloud", message.cloud, required=False)
    if values.get("storage_root"):
        check.url("queue.storage_root", message.storage_root)
    if "status" in values:
        values["status"] = QUEUE_STATUS.to_domain(message.status)
        check.require(values["status"] is not None, "queue.status", "is not a known status")
    for name in _SPANS:
        if name in values:
            low, high = BOUNDS[name]
            assert isinstance(low, timedelta)
            assert isinstance(high, timedelta)
            values[name] = check.duration(f"queue.{name}", values[name], minimum=low, maximum=high)
    return QueueSettings(**values)
