"""What whoever keeps a picture of many nodes asks of the catalog: only what has changed."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Python's own keyed hash: nobody outside can make two names collide on purpose, and by accident
# it takes billions of files in one cache. The price of a collision is one wrong hint. The numbers
# are signed, of 64 bits, and good in this process only.


def name_key(scope: str, lfn: str) -> int:
    """A number for all files of a name."""
    return hash((scope, lfn))


def key_of(name: int, version: str, size_bytes: int) -> int:
    """A number for one file, from that of its name (`name_key`)."""
    return hash((name, version, size_bytes))


def file_key(scope: str, lfn: str, version: str, size_bytes: int) -> int:
    """A number for one file; no other version or size of that name has it."""
    return hash((hash((scope, lfn)), version, size_bytes))


class Version(NamedTuple):
    """Names one state of a node's files. To be kept, compared and handed back, not to be looked into.

    Good in the process that gave it only, as file keys are. `pins` is the version of what is
    pinned on the node, 0 for nothing.
    """

    head: bytes
    epoch: int
    sequence: int
    pins: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class HeldFiles:
    """Files in ascending order of name and key: their names by number, their keys, their sizes in bytes.

    The arrays belong to the catalog: read them, never change them. 24 bytes a file, so that the
    5 million files of 10,000 nodes fit into 120 MB, where dictionaries of entries would take 2 GB.
    """

    names: array[int]
    keys: array[int]
    sizes: array[int]

    def place(self, name: int, key: int) -> int | None:
        """Where in the arrays a file is, None if it is not among them."""
        at = first_not_before(self.names, self.keys, name, key)
        found = at < len(self.keys) and self.names[at] == name and self.keys[at] == key
        return at if found else None

    def versions(self, name: int, version: str = "") -> Iterator[int]:
        """The sizes of the files of a name and version, any if that is empty."""
        for _, key, size in self.of_name(name):
            if not version or key == key_of(name, version, size):
                yield size

    def unknown_versions(self, name: int) -> Iterator[int]:
        """The sizes of the files of a name whose version nobody knows."""
        for _, key, size in self.of_name(name):
            if key == key_of(name, "", size):
                yield size

    def size(self, name: int, version: str = "") -> int | None:
        """Size in bytes of the largest file of a name and version, None if there is none."""
        return max(self.versions(name, version), default=None)

    def of_name(self, name: int) -> Iterator[tuple[int, int, int]]:
        """The files of a name: its number, key and size of each."""
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
    """The first place in arrays as those of `HeldFiles` that does not come before a file's."""
    at, count = bisect_left(names, name), len(names)
    # Few files share a name.
    while at < count and names[at] == name and keys[at] < key:
        at += 1
    return at


class Contents(NamedTuple):
    """What a known node holds; `files` is None when it holds what it held at the known version.

    `epoch` and `sequence` are where its cache stands. A tuple, because the match path makes one
    for each node it asks about.
    """

    version: Version
    epoch: int
    sequence: int
    files: HeldFiles | None


def held_files(files: Iterable[tuple[int, int, int]]) -> HeldFiles:
    """Held files from the number of the name, key and size of each, no two keys alike, in any order."""
    ordered = sorted(files)
    if not ordered:
        return HeldFiles(array("q"), array("q"), array("q"))
    names, keys, sizes = zip(*ordered, strict=True)
    return HeldFiles(array("q", names), array("q", keys), array("q", sizes))
