"""File names are bytes; the contract has them as UTF-8, whatever a node's locale makes of bytes."""

from __future__ import annotations

import os
import sys


def use_utf8() -> None:
    """Starts this program anew, as the same process, unless Python takes file names for UTF-8.

    On a node with a Latin-1 locale a name that came from the server would else become other bytes than
    those that the submitter saw. Nothing but this turns Python's encoding of file names over. For the
    beginning of a program: what it has open and has read is lost.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    flags = ["-I"] if sys.flags.isolated else []
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [sys.argv[0]] if spec is None else ["-m", spec.name]
    words = [sys.executable, "-X", "utf8", *flags, *program, *sys.argv[1:]]
    # Out of sys.argv comes what went in, byte for byte, in whatever encoding.
    os.execv(sys.executable, words)  # noqa: S606 (meant so)
