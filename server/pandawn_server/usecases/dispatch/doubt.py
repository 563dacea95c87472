"""Recovers from a failed round: finds out whether it was committed, and answers the calls it served."""

from __future__ import annotations

from contextlib import suppress

from pandawn_server.domain.errors import OutcomeUnknownError, PandawnError, UnavailableError
from pandawn_server.storage.leases import leases
from pandawn_server.storage.tasks import jobs
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.desks import CallKey, request_name
from pandawn_server.usecases.dispatch.leasing import repeated_grants
from pandawn_server.usecases.dispatch.round import AcquireAnswer, Scene, answered

Delivery = tuple[CallKey, AcquireAnswer | PandawnError]
"""The answer to a waiting call."""


def was_committed(context: Context, scene: Scene, error: BaseException) -> bool | None:
    """Whether a round that failed was committed after all; None if that cannot be found out now.

    Looked up in the database when the outcome of the commit is unknown, because a rollback is not certain then.
    """
    if not isinstance(error, OutcomeUnknownError) or not scene.handed:
        return False
    job_id, (attempt, token) = next(iter(scene.handed.items()))
    try:
        with context.db.write() as tx:
            # A commit in progress holds a lock on the job, so this reads the result.
            jobs.lock_jobs(tx, [job_id])
            return leases.was_given(tx, job_id, attempt, token)
    except UnavailableError:
        return None


def take_back(context: Context, scene: Scene) -> None:
    """After a rollback, with the lock: returns the jobs to their matchmakers, and lets waiting calls wait on."""
    for desk, job_id, caller in scene.open:
        desk.matchmaker.give_back([job_id], scene.now)
        if caller.name not in scene.asked_now:
            desk.ask([caller])
    for name in scene.asked_now:
        context.desks.cancel_locked(name)


def give_up(context: Context, scene: Scene, error: PandawnError) -> list[Delivery]:
    """When the outcome is unknown, with the lock: drops the jobs; they are read again if they still wait.

    The waiting calls get the error. Their repeats get the same leases if the commit succeeded.
    """
    for desk, job_id, caller in scene.open:
        desk.matchmaker.lost({job_id})
        desk.cancel(caller.name)
    for name in scene.asked_now:
        context.desks.cancel_locked(name)
    waited = {caller.call.key for _, _, caller in scene.open if caller.name not in scene.asked_now}
    return [(key, error) for key in sorted(waited)]


def answer_served(context: Context, scene: Scene) -> list[Delivery]:
    """Answers the waiting calls that already have jobs, for example from another server.

    While they wait here, each round with a job for one of them fails with a conflict.
    """
    keys = {c.call.key for _, _, c in scene.open if c.name not in scene.asked_now}
    queue_names = {
        pilot_id: scene.pilot_of[pilot_id].queue
        for pilot_id, _ in keys
        if pilot_id in scene.pilot_of
    }
    found = {}
    with suppress(UnavailableError), context.db.read() as tx:
        found = repeated_grants(tx, context.known, keys, scene.queue_of, queue_names)
    with context.desks.lock:
        return [
            (key, answered(scene.pilot_of[key[0]], tuple(grants), scene))
            for key, grants in found.items()
            if context.desks.cancel_locked(request_name(key))
        ]
