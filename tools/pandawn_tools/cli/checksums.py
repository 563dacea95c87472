"""Checksums of input files: read in the forms that storage systems write, and computed."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path

from pandawn_tools.cli.render import note
from pandawn_tools.cli.units import format_size
from pandawn_transports.checksums import sha256_of

AUTOMATIC_BYTES = 256 * 1024 * 1024
"""Checksums are computed by default if the input files of a task have at most this many bytes in total.

SHA-256 reads more than 1 GB/s on one core, a disk some 300 MB/s: it takes less than a second per task.
"""

# Reading and hashing release the GIL, so threads use several cores and disks.
_AT_ONCE = 4
# Progress is printed only if it takes long.
_FIRST_NOTE_S = 2.0
_NOTE_EVERY_S = 10.0

# Number of hexadecimal digits of each algorithm, and other spellings of its name.
_DIGITS = {"adler32": 8, "md5": 32, "sha256": 64}
_SPELLINGS = {"ad": "adler32", "adler": "adler32", "adler-32": "adler32", "sha-256": "sha256"}
_BARE = {digits: algorithm for algorithm, digits in _DIGITS.items()}
_NAMED = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]*)[:=](?P<value>[0-9A-Za-z+/=]+)")
_HEX = re.compile(r"[0-9A-Fa-f]+")


class Wish(Enum):
    """Whether checksums of the input files are computed."""

    AUTOMATIC = "automatic"
    ALWAYS = "always"
    NEVER = "never"


def read_checksum(text: str) -> str | None:
    """Reads a checksum in any usual form; returns `<algorithm>:<lower-case hex>`, or None if it is no checksum.

    Accepts upper case, `=` for `:`, dCache's `AD`, missing leading zeros of adler32, and digits without an
    algorithm if their number tells which it is.

    Raises:
        ValueError: It looks like a checksum, but cannot be used; the message says why.
    """
    if _HEX.fullmatch(text) and len(text) in _BARE:
        return f"{_BARE[len(text)]}:{text.lower()}"
    match = _NAMED.fullmatch(text)
    if match is None:
        return None
    name = match["name"].lower()
    algorithm = _SPELLINGS.get(name, name)
    digits = _DIGITS.get(algorithm)
    if digits is None:
        raise ValueError(
            f"{text}: {match['name']} checksums cannot be compared; write adler32:, md5: or sha256:, or leave it out"
        )
    value = match["value"].lower()
    if not _HEX.fullmatch(value) or len(value) > digits:
        raise ValueError(f"{text}: the checksum must have at most {digits} hexadecimal digits")
    if len(value) < digits and algorithm != "adler32":
        raise ValueError(f"{text}: the checksum has {len(value)} of {digits} hexadecimal digits")
    return f"{algorithm}:{value.rjust(digits, '0')}"


def sha256_of_all(
    paths: Sequence[Path], total_bytes: int, say: Callable[[str], None] = note
) -> list[str | OSError]:
    """Returns the SHA-256 of each file as `sha256:<hex>`, or the error of reading it; reports progress to `say`.

    `total_bytes` is the sum of their sizes.
    """
    if not paths:
        return []
    progress = _Progress(total_bytes, say)

    def one(path: Path) -> str | OSError:
        try:
            return sha256_of(path, progress.add)
        except OSError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, paths))


class _Progress:
    """Reports from time to time how much has been read."""

    def __init__(self, total_bytes: int, say: Callable[[str], None]) -> None:
        self._total = total_bytes
        self._say = say
        self._lock = threading.Lock()
        self._done = 0
        self._next = time.monotonic() + _FIRST_NOTE_S

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + _NOTE_EVERY_S
            done = format_size(self._done)
        self._say(
            f"Computing checksums of the input files: {done} of {format_size(self._total)}"
            " (--no-checksum skips this)"
        )
