"""What only processes of this machine know: it shows that two pilots of one node's name are on one machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Drawn by the kernel when it starts; the same in all containers of a machine, and of no other machine."""


def node_key() -> str:
    """A digest of it; empty where the system has none."""
    try:
        drawn = _BOOT_ID.read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"pandawn node " + drawn).hexdigest()
