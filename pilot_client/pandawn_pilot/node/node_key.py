"""A key known only on this machine: it shows that two pilots of one node name share a machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Random, generated at boot; the same in all containers of a machine."""


def node_key() -> str:
    """A digest of the boot identifier; empty if the system has none."""
    try:
        drawn = _BOOT_ID.read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"pandawn node " + drawn).hexdigest()
