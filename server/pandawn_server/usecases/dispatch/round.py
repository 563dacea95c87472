"""One round of handing out jobs: the calls, what they got, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.leases.nodes import Node, because_of_node
from pandawn_server.domain.leases.pilots import Pilot, pilot_not_found
from pandawn_server.domain.queues.queues import Queue, QueueStatus, because, queue_offline
from pandawn_server.usecases.dispatch.desks import (
    AcquireCall,
    Caller,
    CallKey,
    Desk,
    request_name,
)
from pandawn_server.usecases.dispatch.leasing import Grant

IDLE_RETRY = timedelta(seconds=2)
"""When a pilot that got nothing should poll again; where possible its call waits in the server meanwhile."""


SUSPENDED_RETRY = timedelta(seconds=5)
"""When a pilot on a node that gets no jobs should poll again: soon after an operator may have resumed it."""


@dataclass(frozen=True, slots=True)
class AcquireAnswer:
    """The answer to a call. `queue` is where new work for the pilot appears, at revision `queue_revision`.

    `drain` is set if there will be no more work: the queue is offline, or the node is drained. `do_not_wait` is
    set if waiting is useless, because the node gets no jobs now.
    """

    queue: str
    grants: tuple[Grant, ...]
    inventory_requested: bool
    retry_after: timedelta
    idle_reason: str
    queue_revision: int = 0
    drain: bool = False
    do_not_wait: bool = False


@dataclass(slots=True)
class Scene:
    """State of one round: its calls, what was read for it, and what the calls got."""

    now: datetime
    calls: Sequence[AcquireCall]
    pilot_of: dict[str, Pilot] = field(default_factory=dict)
    queue_of: dict[str, Queue] = field(default_factory=dict)
    # Nodes that get no jobs now, and nodes on probation that may get one.
    suspended: dict[NodeKey, Node] = field(default_factory=dict)
    probed: dict[NodeKey, Node] = field(default_factory=dict)
    grants: dict[CallKey, list[Grant]] = field(default_factory=dict)
    # Calls for which earlier leases were looked up.
    looked_up: set[CallKey] = field(default_factory=set)
    # Waiting calls that were cancelled because their nodes get no more jobs.
    evicted: list[Caller] = field(default_factory=list)
    inventories_requested: set[NodeKey] = field(default_factory=set)
    # Jobs that the matchmaker assigned, with their callers: revoked if the transaction fails.
    open: list[tuple[Desk, int, Caller]] = field(default_factory=list)
    # What was written for jobs handed out: attempt and token of the lease, by job.
    handed: dict[int, tuple[int, str]] = field(default_factory=dict)
    # Jobs that did not fit in a reply, and the bytes of job descriptions measured, by job.
    returned: list[tuple[Desk, int]] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    # The calls by request name.
    asked_now: dict[str, AcquireCall] = field(init=False)

    def __post_init__(self) -> None:
        self.asked_now = {request_name(call.key): call for call in self.calls}

    def queue(self, pilot: Pilot) -> Queue:
        """The queue of a pilot."""
        return self.queue_of[pilot.queue]

    def gets_jobs(self, pilot: Pilot) -> bool:
        """Whether a pilot may get jobs, judging by its queue and its node."""
        return (
            self.queue(pilot).status is not QueueStatus.OFFLINE and pilot.key not in self.suspended
        )


def answer_to(call: AcquireCall, scene: Scene) -> AcquireAnswer | PandawnError:
    """The answer to a call of the round."""
    pilot = scene.pilot_of.get(call.pilot_id)
    if pilot is None:
        return pilot_not_found(call.pilot_id)
    mine = tuple(scene.grants.get(call.key, ()))
    if not mine and scene.queue(pilot).status is QueueStatus.OFFLINE:
        return queue_offline(scene.queue(pilot))
    return answered(pilot, mine, scene)


def answered(pilot: Pilot, grants: tuple[Grant, ...], scene: Scene) -> AcquireAnswer:
    """The answer to a pilot, with its jobs or with why it got none."""
    retry_after, reason = IDLE_RETRY, ""
    node = scene.suspended.get(pilot.key) or scene.probed.get(pilot.key)
    drains = node is not None and node.is_drained
    if not grants and node is not None:
        retry_after = SUSPENDED_RETRY
        reason = because_of_node(node, scene.now)
    elif not grants:
        queue = scene.queue(pilot)
        if queue.status is QueueStatus.PAUSED:
            reason = f"queue {queue.name} is paused{because(queue)}"
        else:
            reason = f"queue {queue.name} has no job for this node now"
    return AcquireAnswer(
        queue=pilot.queue,
        grants=grants,
        inventory_requested=pilot.key in scene.inventories_requested,
        retry_after=retry_after,
        idle_reason=reason,
        queue_revision=scene.queue(pilot).revision,
        drain=drains and not grants,
        do_not_wait=not grants and node is not None,
    )
