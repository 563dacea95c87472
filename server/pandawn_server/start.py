"""Entry point of `pandawn-server`: Ctrl-C during imports ends it without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from pandawn_server.cli import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        # The parent process ignores SIGINT on purpose: keep it so.
        from pandawn_server.cli import main as run
    run()
