"""A waiting job as the matchmaker keeps it, the files it reads, and its block of neighbouring jobs."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pandawn_server.domain.dispatch.matching import Needs
from pandawn_server.domain.dispatch.nodes import Node
from pandawn_server.domain.leases.attempts import MatchRule

BLOCK_JOBS = 8
"""Jobs of one task that stay together while they wait: as many as a usual node has slots."""


class NeedsClass(NamedTuple):
    """Jobs with similar needs: memory and cores within a factor of two, disk and wall time of four.

    With more classes each match has more to search; with fewer, more offers fit only part of a class.
    """

    memory: int
    cores: int
    disk: int
    wall: int

    @classmethod
    def of(cls, needs: Needs) -> NeedsClass:
        """The class of these needs."""
        memory, cores, disk, wall = map(int.bit_length, needs)
        return _class_of(memory, cores, (disk + 1) >> 1, (wall + 1) >> 1)


@lru_cache(65_536)
def _class_of(memory: int, cores: int, disk: int, wall: int) -> NeedsClass:
    # One shared object per class: with a million jobs this saves memory.
    return NeedsClass(memory, cores, disk, wall)


Places = int | tuple[int, ...] | set[int] | None
"""Numbers of the live nodes where a file is or soon will be: none, one, some, or more than `files.MANY_HOLDERS`."""


class File:
    """A file that waiting jobs (`jobs`, oldest first) read; `gone` counts those that no longer wait."""

    __slots__ = ("gone", "jobs", "number", "places", "size")

    def __init__(self, number: int, size: int, places: Places) -> None:
        self.number = number
        self.size = size
        self.places = places
        self.jobs: list[Entry] = []
        self.gone = 0


class Entry:
    """A waiting job. A job that is added again gets a new entry, because lists keep dead entries for a while.

    `total` is the size of all inputs, `files` those that matching considers. `asked` are the needs as
    submitted, one object shared by all jobs with the same; `kin` is their class. `user` owns the job;
    `avoids` names the nodes on which it failed. `ordinal` is its position by age in its band. `alive` ends
    when the job is given or removed. `turn` is set once the job's turn by age has come; others may
    overtake it until `deadline`, and `is_late` is set when that was extended. The job is held for
    `promised_to` until `held_until`.
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
        """What the job needs of a node: its inputs take space in the work directory too."""
        asked, total = self.asked, self.total
        if total <= asked.disk_bytes:
            return asked
        return Needs(asked.memory_bytes, asked.cores, total, asked.wall_s)

    def again(self, files: tuple[File, ...], *, anywhere: bool = False) -> Entry:
        """A new entry for the same job with its current `files`; `anywhere` drops the nodes it avoids."""
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
    """Up to `BLOCK_JOBS` consecutive jobs of a task whose files are on no node yet.

    Neighbouring jobs read neighbouring files, and so will later tasks: on one node those are found
    together. The node that takes the first job is the `owner`; others take the rest only when nothing else
    is left. `head` is the first job that may still be here; each job here has this as its `block`.
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
        """Whether the block takes no more jobs."""
        return len(self.entries) >= BLOCK_JOBS


class Pick(NamedTuple):
    """A job for a node, with the reason. Picks compare: the smallest goes first among nodes that poll at once."""

    tier: int
    cost: int
    ordinal: int
    entry: Entry
    rule: MatchRule
