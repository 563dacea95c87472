"""Checksums of input files: as people and storage systems write them, and computed here."""

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
"""Input files of a task with no more bytes altogether are read for their checksums unless told otherwise.

SHA-256 runs at more than 1 GB/s on a core of today, a disk at some 300 MB/s: under a second a task.
"""

# Reading and hashing let go of the interpreter, so threads use what cores and disks there are.
_AT_ONCE = 4
# A short task says nothing; of a long one the user hears that it goes on.
_FIRST_NOTE_S = 2.0
_NOTE_EVERY_S = 10.0

# How many hexadecimal digits each algorithm has, by the names that storage systems give it.
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
    """Reads a checksum however it is spelled; None for a text that does not look like one.

    Upper case, `=` for `:`, dCache's `AD`, and the leading zeros that some systems drop are understood, and
    the bare digits of an algorithm that their number tells. Returns `<algorithm>:<lower-case hex>`.

    Raises:
        ValueError: It looks like a checksum, and is none that can be used; the text says why.
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
        raise ValueError(f"{text}: the checksum is to have up to {digits} hexadecimal digits")
    if len(value) < digits and algorithm != "adler32":
        raise ValueError(f"{text}: the checksum has {len(value)} of {digits} hexadecimal digits")
    return f"{algorithm}:{value.rjust(digits, '0')}"


def sha256_of_all(
    paths: Sequence[Path], total_bytes: int, say: Callable[[str], None] = note
) -> list[str | OSError]:
    """The SHA-256 of each file as `sha256:<hex>`, or why it could not be read; tells how far it is.

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
    """Says now and then how much has been read."""

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
            " (--no-checksum leaves them out)"
        )
