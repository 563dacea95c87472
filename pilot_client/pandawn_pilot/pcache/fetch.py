"""The pilot's transports as the copy program of pcache: `python -m pandawn_pilot.pcache.fetch SOURCE DESTINATION`.

So files are transferred by pcache in the same way as without it. Exits with 0, or with 3 and a message;
never with 1, which is pcache's status for a hit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pandawn_pilot.stop import Stop
from pandawn_transports import TransferError, transport_for
from pandawn_transports.account import Account

# Size and checksum of the wanted file, set by the pilot: another file is not transferred.
SIZE_VARIABLE = "PANDAWN_WANTED_BYTES"
CHECKSUM_VARIABLE = "PANDAWN_WANTED_CHECKSUM"
# The account whose rights apply, as `UID:GID`; empty: the pilot's.
READER_VARIABLE = "PANDAWN_READER"
_FAILED = 3


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Copies one file; returns the exit status."""
    source, destination = arguments
    url = source if "://" in source else Path(source).as_uri()
    wanted = environment.get(SIZE_VARIABLE, "")
    try:
        transport = transport_for(url, _reader(environment.get(READER_VARIABLE, "")))
        if wanted and (size := transport.look(url).size_bytes) != int(wanted):
            return _complain(f"{url} has {size} bytes, expected {wanted}")
        checksum = environment.get(CHECKSUM_VARIABLE, "")
        transport.fetch(url, Path(destination), Stop(), checksum)
    except (TransferError, OSError) as error:
        return _complain(str(error))
    return 0


def _reader(text: str) -> Account | None:
    if not text:
        return None
    uid, gid = (int(number) for number in text.split(":"))
    return Account(uid, gid, str(uid))


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return _FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
