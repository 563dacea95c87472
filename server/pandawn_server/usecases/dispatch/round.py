"""One round of handing out jobs: who asks, what they got, and what they are told."""

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
"""When a pilot that got nothing should ask again; it waits in the server meanwhile, if it can."""


SUSPENDED_RETRY = timedelta(seconds=5)
"""When a pilot of a node that gets no jobs should ask again: an operator who resumes it is heard by then."""


@dataclass(frozen=True, slots=True)
class AcquireAnswer:
    """What a pilot gets. `queue` is where new work for it would appear, `queue_revision` where that stands.

    `drain` says that there will be none: the queue is offline, or the node is drained. `in_vain` says that a
    wait would bring none, for the node gets no jobs now.
    """

    queue: str
    grants: tuple[Grant, ...]
    inventory_requested: bool
    retry_after: timedelta
    idle_reason: str
    queue_revision: int = 0
    drain: bool = False
    in_vain: bool = False


@dataclass(slots=True)
class Scene:
    """One round of handing out: who asks, as read at the beginning, and what they got."""

    now: datetime
    calls: Sequence[AcquireCall]
    pilot_of: dict[str, Pilot] = field(default_factory=dict)
    queue_of: dict[str, Queue] = field(default_factory=dict)
    # Nodes that get no jobs now, and those on probation that may get one.
    suspended: dict[NodeKey, Node] = field(default_factory=dict)
    probed: dict[NodeKey, Node] = field(default_factory=dict)
    grants: dict[CallKey, list[Grant]] = field(default_factory=dict)
    # Calls of which it was looked up what they got when they came before.
    looked_up: set[CallKey] = field(default_factory=set)
    # Those who waited, on nodes that get no jobs any more.
    dismissed: list[Caller] = field(default_factory=list)
    inventories_wanted: set[NodeKey] = field(default_factory=set)
    # Jobs that the matchmaker assigned, and to whom: to be taken back if the transaction fails.
    open: list[tuple[Desk, int, Caller]] = field(default_factory=list)
    # What was written of jobs that were handed out: attempt and token of the lease, by job.
    handed: dict[int, tuple[int, str]] = field(default_factory=dict)
    # Jobs that were too much for one reply, and bytes of the descriptions that were measured, by job.
    returned: list[tuple[Desk, int]] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    # The calls by the names of their requests.
    asked_now: dict[str, AcquireCall] = field(init=False)

    def __post_init__(self) -> None:
        self.asked_now = {request_name(call.key): call for call in self.calls}

    def queue(self, pilot: Pilot) -> Queue:
        """The queue of a pilot."""
        return self.queue_of[pilot.queue]

    def gets_jobs(self, pilot: Pilot) -> bool:
        """Whether a pilot gets jobs, as far as its queue and its node are concerned."""
        return (
            self.queue(pilot).status is not QueueStatus.OFFLINE and pilot.key not in self.suspended
        )


def answer_to(call: AcquireCall, scene: Scene) -> AcquireAnswer | PandawnError:
    """What a call of the round is answered."""
    pilot = scene.pilot_of.get(call.pilot_id)
    if pilot is None:
        return pilot_not_found(call.pilot_id)
    mine = tuple(scene.grants.get(call.key, ()))
    if not mine and scene.queue(pilot).status is QueueStatus.OFFLINE:
        return queue_offline(scene.queue(pilot))
    return answered(pilot, mine, scene)


def answered(pilot: Pilot, grants: tuple[Grant, ...], scene: Scene) -> AcquireAnswer:
    """The answer to a pilot with what it got, or why it got nothing."""
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
        inventory_requested=pilot.key in scene.inventories_wanted,
        retry_after=retry_after,
        idle_reason=reason,
        queue_revision=scene.queue(pilot).revision,
        drain=drains and not grants,
        in_vain=not grants and node is not None,
    )
