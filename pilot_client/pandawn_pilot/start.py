"""Entry points of the programs of a node: Ctrl-C during imports ends them without a traceback."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def pilot() -> int:
    """Runs `pandawn-pilot`."""
    with _quietly():
        from pandawn_pilot.cli import main
    return main()


def hook() -> int:
    """Runs `pandawn-pcache-hook`."""
    with _quietly():
        from pandawn_pilot.hooks.pcache_hook import main
    return main()


def wrapper() -> int:
    """Runs `pandawn-pcache`."""
    with _quietly():
        from pandawn_pilot.hooks.pcache_wrapper import main
    return main()


@contextmanager
def _quietly() -> Iterator[None]:
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Started with SIGINT ignored (nohup, background jobs): keep ignoring it.
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
