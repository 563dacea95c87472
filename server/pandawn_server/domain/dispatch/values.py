"""Inputs and outputs of a queue's matchmaker: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.attempts import Match
from pandawn_server.domain.tasks.jobs import Requirements


@dataclass(frozen=True, slots=True)
class RunnableJob:
    """A runnable job of `user`; `since` is when it became runnable.

    `inputs` are (file number, size in bytes); duplicates count once. A file of one name, version and size
    has the same number everywhere. `unlocated_bytes` is the total size of further inputs that no node can
    be shown to hold. Consecutive jobs of one task (`task_id`, 0 for none) are assumed to read neighbouring
    files. `avoids` names the nodes on which the job failed.
    """

    job_id: int
    priority: int
    since: datetime
    inputs: Sequence[tuple[int, int]] = ()
    requirements: Requirements = field(default_factory=Requirements)
    task_id: int = 0
    user: str = ""
    unlocated_bytes: int = 0
    avoids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """A poll of a pilot for up to `count` jobs; the caller sets a unique `request_id`.

    Users in `doubts` had jobs fail on this node: while other nodes are live, it gets none of their jobs.
    """

    request_id: str
    node: NodeKey
    offer: Requirements
    count: int = 1
    doubts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job chosen for a request. Tentative until the claim in the database succeeds."""

    request_id: str
    node: NodeKey
    match: Match


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the memory of a matchmaker.

    Beyond `jobs`, `Matchmaker.add` returns the jobs it did not take: offer them again when there is room,
    oldest first. This delays no job, since those ahead are served first anyway. A job with more than
    `files_per_job` inputs keeps the largest; an inventory keeps its first `files_per_node` files.
    """

    jobs: int = 1_000_000
    files_per_job: int = 100
    files_per_node: int = 100_000


@dataclass(frozen=True, slots=True)
class Standing:
    """The position of a waiting job.

    `ahead` jobs of its priority band precede it by age. It is held for `held_for` until `held_until` at
    most. `overdue_at` is when the next request gets it, whatever its node; None before its turn by age.
    `shares` are the nodes that hold most of its input, in bytes, largest first. `too_large` is set when
    its inputs exceed the queue's limit.
    """

    ahead: int
    held_for: NodeKey | None
    held_until: datetime | None
    overdue_at: datetime | None
    shares: Sequence[tuple[NodeKey, int]]
    too_large: bool
