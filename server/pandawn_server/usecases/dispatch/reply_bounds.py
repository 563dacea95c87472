"""Limits the replies of a round to what one message may hold; jobs beyond that stay runnable."""

from __future__ import annotations

from collections.abc import Sequence

from pandawn_server.domain.dispatch.reply_size import LIST_BYTES, job_bytes
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.dispatch.handout import HandedJob, Offer, take_back
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.desks import Desk
from pandawn_server.usecases.dispatch.leasing import Grant, new_grants
from pandawn_server.usecases.dispatch.round import Scene


def take_grants(
    context: Context,
    tx: Transaction,
    scene: Scene,
    desk: Desk,
    given: Sequence[tuple[Offer, HandedJob]],
) -> None:
    """Adds jobs that were handed out to the answers of their calls; takes back those that do not fit."""
    too_much = []
    for (offer, job), (key, grant) in zip(
        given, new_grants(tx, context.known, given, scene.queue_of), strict=True
    ):
        mine = scene.grants.setdefault(key, [])
        # A call's only job is not measured: submission rejects jobs that are too long.
        if mine and _size_of([*mine, grant], scene) > LIST_BYTES:
            too_much.append((offer, job))
            continue
        mine.append(grant)
        scene.handed[job.job_id] = (job.attempt, offer.token)
    if too_much:
        take_back(tx, too_much, scene.now)
        scene.returned += [(desk, job.job_id) for _, job in too_much]


def _size_of(grants: Sequence[Grant], scene: Scene) -> int:
    sizes = scene.sizes
    for grant in grants:
        if grant.job.job_id not in sizes:
            sizes[grant.job.job_id] = job_bytes(grant.task.spec, grant.inputs, grant.outputs)
    return sum(sizes[grant.job.job_id] for grant in grants)
