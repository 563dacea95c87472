"""Contents of nodes, for readers that follow many nodes and read only changes."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Python's own keyed hash: nobody outside can force a collision, and an accidental one takes billions of files in
# one cache. A collision costs one wrong hint. The numbers are signed 64-bit integers, valid in this process only.


def name_key(scope: str, lfn: str) -> int:
    """A number for all files with this name."""
    return hash((scope, lfn))


def key_of(name: int, version: str, size_bytes: int) -> int:
    """A number for one file, from its name's number (`name_key`)."""
    return hash((name, version, size_bytes))


def file_key(scope: str, lfn: str, version: str, size_bytes: int) -> int:
    """A number for one file; another version or size of the name has another number."""
    return hash((hash((scope, lfn)), version, size_bytes))


class Version(NamedTuple):
    """Identifies one state of a node's files. Opaque: keep it, compare it, and hand it back.

    Valid only in the process that made it, as file keys are. `pins` is the version of the node's pins, 0 if there
    are none.
    """

    head: bytes
    epoch: int
    sequence: int
    pins: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class HeldFiles:
    """Files in ascending order of name and key: name numbers, keys, and sizes in bytes.

    The arrays belong to the catalog: never change them. A file takes 24 bytes, so the 5 million files of 10,000
    nodes take 120 MB; dictionaries would take 2 GB.
    """

    names: array[int]
    keys: array[int]
    sizes: array[int]

    def place(self, name: int, key: int) -> int | None:
        """The index of a file in the arrays; None if it is not there."""
        at = first_not_before(self.names, self.keys, name, key)
        found = at < len(self.keys) and self.names[at] == name and self.keys[at] == key
        return at if found else None

    def versions(self, name: int, version: str = "") -> Iterator[int]:
        """The sizes of the files with this name and version; any version if it is empty."""
        for _, key, size in self.of_name(name):
            if not version or key == key_of(name, version, size):
                yield size

    def unknown_versions(self, name: int) -> Iterator[int]:
        """The sizes of the files with this name whose version is unknown."""
        for _, key, size in self.of_name(name):
            if key == key_of(name, "", size):
                yield size

    def size(self, name: int, version: str = "") -> int | None:
        """Size in bytes of the largest file with this name and version; None if there is none."""
        return max(self.versions(name, version), default=None)

    def of_name(self, name: int) -> Iterator[tuple[int, int, int]]:
        """The files with this name: name number, key and size of each."""
        names = self.names
        at, count = bisect_left(names, name), len(names)
        while at < count and names[at] == name:
            yield name, self.keys[at], self.sizes[at]
            at += 1

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.names, self.keys, self.sizes, strict=True)


def first_not_before(names: array[int], keys: array[int], name: int, key: int) -> int:
    """The first index in the arrays of a `HeldFiles` that is not before the given file."""
    at, count = bisect_left(names, name), len(names)
    # Only few files share a name.
    while at < count and names[at] == name and keys[at] < key:
        at += 1
    return at


class Contents(NamedTuple):
    """What a known node holds; `files` is None if it is unchanged since the version given.

    `epoch` and `sequence` are the state of its cache. A tuple for speed: the match path makes one per node.
    """

    version: Version
    epoch: int
    sequence: int
    files: HeldFiles | None


def held_files(files: Iterable[tuple[int, int, int]]) -> HeldFiles:
    """Makes held files from rows of (name number, key, size), in any order and without duplicates."""
    ordered = sorted(files)
    if not ordered:
        return HeldFiles(array("q"), array("q"), array("q"))
    names, keys, sizes = zip(*ordered, strict=True)
    return HeldFiles(array("q", names), array("q", keys), array("q", sizes))
