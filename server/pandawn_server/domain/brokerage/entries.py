"""A waiting job as the brokerage keeps it, and the block of neighbours that it stands in."""

from __future__ import annotations

from typing import NamedTuple

from pandawn_server.domain.brokerage.holdings import Node
from pandawn_server.domain.matching import Needs

BLOCK_JOBS = 8
"""Jobs of one task that are kept together while they wait: as many as a usual node has slots."""


class NeedsClass(NamedTuple):
    """Jobs with needs of like size: the bit length of each need."""

    memory: int
    cores: int
    disk: int
    wall: int

    @classmethod
    def of(cls, needs: Needs) -> NeedsClass:
        """The class that needs belong to."""
        return cls(*(need.bit_length() for need in needs))


class Entry:
    """A waiting job.

    `ordinal` is its place by age in its band, `kin` the class of its needs. `alive` ends when the
    job is given or removed. `turn` is whether it would have been given by now if age alone
    counted, `deadline` until when others may go before it then. `promised_to` is the node it is held for, until
    `held_until`.
    """

    __slots__ = (
        "alive",
        "block",
        "deadline",
        "files",
        "held_until",
        "job_id",
        "kin",
        "needs",
        "ordinal",
        "priority",
        "promised_to",
        "removed",
        "since",
        "sizes",
        "task_id",
        "total",
        "turn",
    )

    def __init__(
        self,
        job_id: int,
        priority: int,
        since: float,
        files: tuple[int, ...],
        sizes: tuple[int, ...],
        total: int,
        needs: Needs,
        task_id: int,
    ) -> None:
        self.job_id = job_id
        self.priority = priority
        self.since = since
        self.files = files
        self.sizes = sizes
        self.total = total
        self.needs = needs
        self.kin = NeedsClass.of(needs)
        self.task_id = task_id
        self.ordinal = 0
        self.alive = True
        self.removed = False
        self.turn = False
        self.deadline = self.held_until = 0.0
        self.promised_to: Node | None = None
        self.block: Block | None = None


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
