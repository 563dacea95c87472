"""The directories and options of pcache 4.2.3, which runs unmodified.

<scratch>/pcache/CACHE/<path of the source>/    one directory per file:
    data                    the file; renamed when complete
    src, guid               source URL; GUID if pcache got one
    mru, xfer, .LOCK        a link into MRU/; a running transfer; a lock
    .pandawn                ours: the names that a pilot uses for the file, see names.py
<scratch>/pcache/CACHE/size         sum of the sizes, rewritten at each change
<scratch>/pcache/CACHE/.pandawn-epoch   ours: the epoch of this CACHE/
<scratch>/pandawn-pcache/           ours: the books, see books.py; outside, so that they survive a wiped cache
"""

from __future__ import annotations

import getopt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = "data"
SOURCE = "src"
GUID = "guid"
CLAIM = ".pandawn"

DEFAULT_SCRATCH_DIR = "/scratch/"
DEFAULT_STORAGE_ROOT = "/pnfs"

# pcache's own table of options, so that we parse as it does.
_SHORT_OPTIONS = "s:x:m:Cy:A:R:t:r:g:fFl:VvdqpPH:S:L:X:"
_LONG_OPTIONS = (
    "scratch-dir=",
    "storage-root=",
    "max-space=",
    "clean",
    "hysterisis=",
    "accept=",
    "reject=",
    "timeout=",
    "retry=",
    "force",
    "flush-cache",
    "guid=",
    "log=",
    "version",
    "verbose",
    "debug",
    "quiet",
    "print-stats",
    "panda",
    "hostname",
    "sitename",
    "local-src",
)


@dataclass(frozen=True)
class Invocation:
    """A parsed command line of pcache: the options that we need, and the remaining words."""

    scratch_dir: str
    storage_root: str
    site: str
    clean: bool
    words: tuple[str, ...]


@dataclass(frozen=True)
class Stamp:
    """Changes whenever pcache adds or removes a file; costs two system calls."""

    cache: tuple[int, int]
    size: tuple[int, int]


class Place:
    """A pcache directory. pcache compares `scratch_dir` as text, so it is kept as given."""

    def __init__(self, scratch_dir: str) -> None:
        self.scratch_dir = scratch_dir if scratch_dir.endswith("/") else scratch_dir + "/"
        self.root = Path(self.scratch_dir, "pcache")
        self.cache = self.root / "CACHE"
        self.epoch_mark = self.cache / ".pandawn-epoch"
        self.books = Path(self.scratch_dir, "pandawn-pcache")

    def entry(self, source: str, storage_root: str) -> str | None:
        """The directory of a source below CACHE/, by pcache's rule; None if outside of CACHE/."""
        at = source.find(storage_root)
        if at >= 0:
            source = source[at:]
        elif (at := source.find("SFN=")) >= 0:
            source = source[at + 4 :]
        cache = os.path.normpath(self.cache)
        path = os.path.normpath(f"{cache}/{source}")
        return path.removeprefix(f"{cache}/") if path.startswith(f"{cache}/") else None

    def make_entry(self, entry: str) -> None:
        """Creates an entry's directory and its parents, world-writable as pcache's own. Raises OSError."""
        directory = self.root
        for part in ("", "CACHE", *entry.split("/")):
            directory /= part
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            directory.chmod(0o777)

    def stamp(self) -> Stamp:
        """The current stamp."""
        return Stamp(_mark(self.cache), _mark(self.cache / "size"))

    def make_books(self, *inner: str) -> None:
        """Creates the directory of the books and some subdirectories, world-writable as pcache's own.

        Pilots of different accounts share a pcache and its books. Raises OSError.
        """
        for directory in (self.books, *(self.books / name for name in inner)):
            directory.mkdir(exist_ok=True)
            status = directory.stat()
            if status.st_uid == os.geteuid() and status.st_mode & 0o777 != 0o777:
                directory.chmod(0o777)


def read_options(words: Sequence[str]) -> Invocation | None:
    """Parses the words after the program's name as pcache does; None if pcache would refuse them."""
    try:
        options, rest = getopt.getopt(list(words), _SHORT_OPTIONS, _LONG_OPTIONS)
    except getopt.GetoptError:
        return None
    given = {_LETTERS.get(name, name): value for name, value in options}
    return Invocation(
        scratch_dir=given.get("-s", DEFAULT_SCRATCH_DIR),
        storage_root=given.get("-x", DEFAULT_STORAGE_ROOT),
        site=given.get("-S", ""),
        clean="-C" in given,
        words=tuple(rest),
    )


_LETTERS = {"--scratch-dir": "-s", "--storage-root": "-x", "--clean": "-C"}


def _mark(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)
