"""How many files and connections this process may have open, and how they are divided."""

from __future__ import annotations

import resource

from pandawn_server.listeners import Listener

RESERVED = 256
"""Descriptors that network connections never get: for the operator's socket, the database and its files, and
whatever else a server opens."""

_OF_A_FRONT = 3
"""Descriptors of a connection through a front: its own, and both ends of the one to gRPC."""

_LEAST_CONNECTIONS = 16


def raise_limit() -> int:
    """Raises the limit of open files as far as the system allows, and returns it.

    systemd starts services with 1,024 and allows half a million.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS reports "unlimited" but rejects it
            return soft
    return hard


def connections_of_a_door(descriptors: int, listeners: tuple[Listener, ...], wished: int) -> int:
    """Connections that each network address may have, so that all together leave the reserve free."""
    doors = sum(listener.socket_path is None for listener in listeners)
    if descriptors == resource.RLIM_INFINITY or not doors:
        return wished
    share = (descriptors - RESERVED) // (_OF_A_FRONT * doors)
    return max(_LEAST_CONNECTIONS, min(wished, share))
