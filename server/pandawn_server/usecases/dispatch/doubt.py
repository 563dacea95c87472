"""Rounds of handing out jobs that failed: whether they were done all the same, and who was in their way."""

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
"""The answer to a call that waited."""


def was_done(context: Context, scene: Scene, error: BaseException) -> bool | None:
    """Whether the jobs of a round were handed out although it failed; None: nobody can tell now.

    After an error of unknown outcome that is looked up, for a rollback may not be believed in.
    """
    if not isinstance(error, OutcomeUnknownError) or not scene.handed:
        return False
    job_id, (attempt, token) = next(iter(scene.handed.items()))
    try:
        with context.db.write() as tx:
            # A commit that is under way holds the job: what is read after this is how it ended.
            jobs.lock_jobs(tx, [job_id])
            return leases.was_given(tx, job_id, attempt, token)
    except UnavailableError:
        return None


def take_back(context: Context, scene: Scene) -> None:
    """After a rollback, with the lock: the jobs still wait, and so do those who waited for them before."""
    for desk, job_id, caller in scene.open:
        desk.matchmaker.give_back([job_id], scene.now)
        if caller.name not in scene.asked_now:
            desk.ask([caller])
    for name in scene.asked_now:
        context.desks.drop(name)


def give_up(context: Context, scene: Scene, error: PandawnError) -> list[Delivery]:
    """Where nobody can tell, with the lock: the jobs are forgotten, and read again if they still wait.

    Who waited for them hears of it, repeats the call, and gets by that what it was given, if it was.
    """
    for desk, job_id, caller in scene.open:
        desk.matchmaker.lost({job_id})
        desk.withdraw(caller.name)
    for name in scene.asked_now:
        context.desks.drop(name)
    waited = {caller.call.key for _, _, caller in scene.open if caller.name not in scene.asked_now}
    return [(key, error) for key in sorted(waited)]


def answer_the_served(context: Context, scene: Scene) -> list[Delivery]:
    """Answers those of the calls that waited which have got their jobs already, by another server say.

    As long as they wait here, each round that has a job for one of them is refused as a conflict.
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
            if context.desks.drop(request_name(key))
        ]
