"""A waiting job as the matchmaker keeps it, the files it reads, and the block of neighbours that it stands in."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pandawn_server.domain.dispatch.matching import Needs
from pandawn_server.domain.dispatch.nodes import Node
from pandawn_server.domain.leases.attempts import MatchRule

BLOCK_JOBS = 8
"""Jobs of one task that are kept together while they wait: as many as a usual node has slots."""


class NeedsClass(NamedTuple):
    """Jobs with needs of like size: memory and cores within a factor of two, disk and wall time of four.

    The more classes, the more there is to look at for each match; the fewer, the more offers fit but a part of a class.
    """

    memory: int
    cores: int
    disk: int
    wall: int

    @classmethod
    def of(cls, needs: Needs) -> NeedsClass:
        """The class that needs belong to."""
        memory, cores, disk, wall = map(int.bit_length, needs)
        return _class_of(memory, cores, (disk + 1) >> 1, (wall + 1) >> 1)


@lru_cache(65_536)
def _class_of(memory: int, cores: int, disk: int, wall: int) -> NeedsClass:
    # One object for all jobs of a class: with a million of them it counts.
    return NeedsClass(memory, cores, disk, wall)


Places = int | tuple[int, ...] | set[int] | None
"""The live nodes where a file is or soon will be, by number: None for none, a number for one, a set for many."""


class File:
    """A file that waiting jobs (`jobs`, oldest first) read; `gone` of those no longer wait."""

    __slots__ = ("gone", "jobs", "number", "places", "size")

    def __init__(self, number: int, size: int, places: Places) -> None:
        self.number = number
        self.size = size
        self.places = places
        self.jobs: list[Entry] = []
        self.gone = 0


class Entry:
    """A waiting job, once: whoever takes it in again makes another, for lists keep dead ones for a while.

    `total` is the size of all inputs, `files` those that count. `asked` are the needs that its
    owner named, the same object in all jobs with the same, and `kin` the class of its needs.
    `user` is whose it is, `avoids` names the nodes on which it failed.
    `ordinal` is its place by age in its band. `alive` ends when the job is given or removed. `turn` is whether it
    would have been given by now if age alone counted, `deadline` until when others may go before it then; `is_late` is
    whether that was put off already.
    `promised_to` is the node it is held for, until `held_until`.
    """

    __slots__ = (
        "alive",
        "asked",
        "avoids",
        "block",
        "deadline",
        "files",
        "held_until",
        "is_late",
        "job_id",
        "kin",
        "ordinal",
        "priority",
        "promised_to",
        "removed",
        "since",
        "task_id",
        "total",
        "turn",
        "user",
    )

    def __init__(
        self,
        job_id: int,
        priority: int,
        since: float,
        files: tuple[File, ...],
        total: int,
        asked: Needs,
        task_id: int,
        user: str,
        avoids: frozenset[str] = frozenset(),
    ) -> None:
        self.job_id = job_id
        self.priority = priority
        self.since = since
        self.files = files
        self.total = total
        self.asked = asked
        self.task_id = task_id
        self.user = user
        self.avoids = avoids
        self.kin = NeedsClass.of(self.needs)
        self.ordinal = 0
        self.alive = True
        self.removed = False
        self.turn = self.is_late = False
        self.deadline = self.held_until = 0.0
        self.promised_to: Node | None = None
        self.block: Block | None = None

    @property
    def needs(self) -> Needs:
        """What the job needs of a node: inputs are copied or linked into the work directory too."""
        asked, total = self.asked, self.total
        if total <= asked.disk_bytes:
            return asked
        return Needs(asked.memory_bytes, asked.cores, total, asked.wall_s)

    def again(self, files: tuple[File, ...], *, anywhere: bool = False) -> Entry:
        """The same job, to be taken in once more, `anywhere` perhaps; `files` are its files as they are kept now."""
        return Entry(
            self.job_id,
            self.priority,
            self.since,
            files,
            self.total,
            self.asked,
            self.task_id,
            self.user,
            frozenset() if anywhere else self.avoids,
        )


class Block:
    """Up to `BLOCK_JOBS` consecutive jobs of a task whose files are nowhere yet.

    Neighbours read neighbouring files, and so will the jobs of tasks to come: on one node they
    are found together. The node that takes the first is the `owner`: others take the rest only where
    there is nothing else. `head` is the first that may be there still; a job in the block has it as its `block`.
    """

    __slots__ = ("entries", "head", "kin", "last_node", "owner", "packed")

    def __init__(self, kin: NeedsClass) -> None:
        self.kin = kin
        self.entries: list[Entry] = []
        self.head = 0
        self.owner: Node | None = None
        self.last_node: Node | None = None
        self.packed = 0

    @property
    def full(self) -> bool:
        """Whether no more jobs belong here."""
        return len(self.entries) >= BLOCK_JOBS


class Pick(NamedTuple):
    """A job for a node and why. Picks compare: the smaller goes first among nodes that ask at once."""

    tier: int
    cost: int
    ordinal: int
    entry: Entry
    rule: MatchRule
