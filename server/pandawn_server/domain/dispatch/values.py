"""What goes into the matchmaker of a queue and what comes out of it: plain values."""

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

    `inputs` are its files, each by a number that is the same wherever that file is named, at that
    version and with that size (as `inventory.file_digest`), and with its size in bytes; one named
    twice counts once. `unlocated_bytes` are those of inputs beside them of which nobody can tell
    whether a node has them. Jobs of one task (`task_id`, 0 for none) that are added one after the
    other are taken to read neighbouring files. `avoids` names nodes on which it failed.
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
    """A pilot that asks for up to `count` jobs; `request_id` is the caller's and unique.

    Jobs of users in `doubts` do not go to it while there are other live nodes: theirs failed on its node.
    """

    request_id: str
    node: NodeKey
    offer: Requirements
    count: int = 1
    doubts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job for a request. A hint, until the claim in the database succeeds."""

    request_id: str
    node: NodeKey
    match: Match


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the memory of a matchmaker.

    Jobs beyond `jobs` are not taken (`Brokerage.add` names them): they are to be offered again when
    there is room, oldest first, and wait no longer for it, since those in front of them are
    served first anyhow. Of a job with more than `files_per_job` inputs the largest count; of an
    inventory with more than `files_per_node` files those named first.
    """

    jobs: int = 1_000_000
    files_per_job: int = 100
    files_per_node: int = 100_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting job stands.

    `ahead` jobs of its priority band would go before it by age alone. It is kept for `held_for`
    until `held_until` at most. `overdue_at` is when it goes to whoever asks next, known once its
    turn by age has come. `shares` are the nodes that hold most of it, in bytes, most first.
    `too_large` says that its inputs exceed the queue's limit.
    """

    ahead: int
    held_for: NodeKey | None
    held_until: datetime | None
    overdue_at: datetime | None
    shares: Sequence[tuple[NodeKey, int]]
    too_large: bool
