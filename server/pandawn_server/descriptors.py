"""How many files and connections this process may have open, and who gets how many of them."""

from __future__ import annotations

import resource

from pandawn_server.listeners import Listener

RESERVED = 256
"""Descriptors that connections from the network never get: for the operator's socket, the database and
its files, and what else a server opens."""

_OF_A_FRONT = 3
"""Descriptors of a connection through a front: its own, and both ends of what leads to gRPC."""

_LEAST_CONNECTIONS = 16


def raise_limit() -> int:
    """Takes as many descriptors as the system gives, and returns the number.

    systemd starts services with 1,024 and lets them have half a million.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS says "unlimited" and does not mean it
            return soft
    return hard


def connections_of_a_door(descriptors: int, listeners: tuple[Listener, ...], wished: int) -> int:
    """Connections that each address of the network may have, so that all together leave the reserve alone."""
    doors = sum(listener.socket_path is None for listener in listeners)
    if descriptors == resource.RLIM_INFINITY or not doors:
        return wished
    share = (descriptors - RESERVED) // (_OF_A_FRONT * doors)
    return max(_LEAST_CONNECTIONS, min(wished, share))
