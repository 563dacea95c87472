"""Makes Python treat file names as UTF-8, as the contract does, whatever the locale is."""

from __future__ import annotations

import os
import sys


def use_utf8() -> None:
    """Restarts this program in the same process in UTF-8 mode, unless file names are UTF-8 already.

    Otherwise, in a Latin-1 locale, names from the server would become other bytes than the submitter's.
    Python cannot change this encoding later. Call it first: the restart loses all state.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    flags = ["-I"] if sys.flags.isolated else []
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [sys.argv[0]] if spec is None else ["-m", spec.name]
    words = [sys.executable, "-X", "utf8", *flags, *program, *sys.argv[1:]]
    # sys.argv round-trips to the same bytes in any encoding.
    os.execv(sys.executable, words)  # noqa: S606 (meant so)
