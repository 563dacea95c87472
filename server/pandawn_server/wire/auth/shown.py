"""The metadata of the current call, kept as gRPC gave it to the interceptor.

Asking gRPC again would decode all of it again, which is half of what the gate costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

from pandawn_server.wire.edge.handlers import ServicerContext

Metadata = Iterable[tuple[str, str | bytes]]

_METADATA: ContextVar[Metadata | None] = ContextVar("pandawn_metadata", default=None)


def enter_metadata(metadata: Metadata | None) -> None:
    """Keeps the metadata of this task's call."""
    _METADATA.set(metadata)


def metadata_of(context: ServicerContext) -> Metadata:
    """The metadata of the current call."""
    kept = _METADATA.get()
    return (context.invocation_metadata() or ()) if kept is None else kept
