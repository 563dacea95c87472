"""The services of this server: each servicer with the name under which clients find it."""

from __future__ import annotations

from pandawn_server.wire.deps import Deps
from pandawn_server.wire.server import Service


def services(deps: Deps) -> list[Service]:
    """Makes the servicers."""
    del deps
    return []
