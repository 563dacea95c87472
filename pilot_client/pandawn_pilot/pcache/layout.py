"""Where pcache keeps what, and the options that decide it: read off pcache 4.2.3, of which nothing is changed.

<scratch>/pcache/CACHE/<path of the source>/    one directory a file:
    data                    the file; appears by rename, whole
    src, guid               source URL, GUID if pcache was told one
    mru, xfer, .LOCK        a link into MRU/; a transfer under way; a lock
    .pandawn                ours: the names that a pilot knows the file by, see names
<scratch>/pcache/CACHE/size         sum of the sizes, rewritten at each change
<scratch>/pcache/CACHE/.pandawn-epoch   ours: the epoch that this life of CACHE/ has
<scratch>/pandawn-pcache/           ours: the books, see books; beside, so that a wiped cache leaves them
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

# pcache's own table: what it does not take apart, we must not either.
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
    """What pcache is asked for: those of its options that matter to others, and the rest of the words."""

    scratch_dir: str
    storage_root: str
    site: str
    clean: bool
    words: tuple[str, ...]


@dataclass(frozen=True)
class Stamp:
    """Changes whenever pcache adds or removes a file, at the price of two calls to the kernel."""

    cache: tuple[int, int]
    size: tuple[int, int]


class Place:
    """A pcache directory. `scratch_dir` is compared by pcache as text, so it is kept as given."""

    def __init__(self, scratch_dir: str) -> None:
        self.scratch_dir = scratch_dir if scratch_dir.endswith("/") else scratch_dir + "/"
        self.root = Path(self.scratch_dir, "pcache")
        self.cache = self.root / "CACHE"
        self.epoch_mark = self.cache / ".pandawn-epoch"
        self.books = Path(self.scratch_dir, "pandawn-pcache")

    def entry(self, source: str, storage_root: str) -> str | None:
        """The directory of a source below CACHE/, by pcache's rule; None for one that leaves CACHE/."""
        at = source.find(storage_root)
        if at >= 0:
            source = source[at:]
        elif (at := source.find("SFN=")) >= 0:
            source = source[at + 4 :]
        cache = os.path.normpath(self.cache)
        path = os.path.normpath(f"{cache}/{source}")
        return path.removeprefix(f"{cache}/") if path.startswith(f"{cache}/") else None

    def make_entry(self, entry: str) -> None:
        """Makes an entry's directory and those above it, as open to all as pcache makes them. Raises OSError."""
        directory = self.root
        for part in ("", "CACHE", *entry.split("/")):
            directory /= part
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            directory.chmod(0o777)

    def stamp(self) -> Stamp:
        """The stamp as it is now."""
        return Stamp(_mark(self.cache), _mark(self.cache / "size"))

    def make_books(self, *inner: str) -> None:
        """Makes the directory of the books and some within it, open to all as pcache's own are.

        Pilots of different accounts share a pcache, and whoever keeps its books must be able to.
        Raises OSError.
        """
        for directory in (self.books, *(self.books / name for name in inner)):
            directory.mkdir(exist_ok=True)
            status = directory.stat()
            if status.st_uid == os.geteuid() and status.st_mode & 0o777 != 0o777:
                directory.chmod(0o777)


def read_options(words: Sequence[str]) -> Invocation | None:
    """Takes the words behind the program's name apart as pcache does; None for what it refuses."""
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
