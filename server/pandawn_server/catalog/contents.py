"""What whoever keeps a picture of many nodes asks of the catalog: only what has changed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Version(NamedTuple):
    """Names one state of a node's files. To be kept, compared and handed back, not to be looked into.

    Good in the process that gave it only, as file keys are.
    """

    head: bytes
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True, eq=False)
class HeldFiles:
    """Files by key (`views.file_key`) in ascending order, with their sizes in bytes.

    The arrays belong to the catalog: read them, never change them.
    """

    file_keys: array[int]
    sizes: array[int]

    def __len__(self) -> int:
        return len(self.file_keys)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.file_keys, self.sizes, strict=True)


class Contents(NamedTuple):
    """What a known node holds; `files` is None when it holds what it held at the known version.

    `epoch` and `sequence` are where its cache stands. A tuple, because the match path makes one
    for each node it asks about.
    """

    version: Version
    epoch: int
    sequence: int
    files: HeldFiles | None
