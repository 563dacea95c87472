"""Where the `pandawn` command begins: Ctrl-C while its modules are read ends it without a traceback."""

import signal


def main() -> None:
    """Runs the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from pandawn_tools.cli.main import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        # Whoever started it wants it to go on.
        from pandawn_tools.cli.main import main as run
    run()
