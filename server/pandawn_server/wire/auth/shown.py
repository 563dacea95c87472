"""The metadata of the call that runs, kept as gRPC gave it to the interceptor.

Asked a second time it decodes all of it a second time, which would be half of what the gate costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

from pandawn_server.wire.edge.handlers import ServicerContext

Metadata = Iterable[tuple[str, str | bytes]]

_METADATA: ContextVar[Metadata | None] = ContextVar("pandawn_metadata", default=None)


def enter_metadata(metadata: Metadata | None) -> None:
    """Keeps the metadata of the call of this task."""
    _METADATA.set(metadata)


def metadata_of(context: ServicerContext) -> Metadata:
    """The metadata of the call that runs."""
    kept = _METADATA.get()
    return (context.invocation_metadata() or ()) if kept is None else kept
