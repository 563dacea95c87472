"""Feeds a matchmaker: runnable jobs from the database, inventories from the catalog. Never all at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pandawn_server.catalog.contents import Version, file_key
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey
from pandawn_server.domain.dispatch.values import RunnableJob
from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.dispatch import runnable
from pandawn_server.storage.dispatch.runnable import Arrival, RunnableRow
from pandawn_server.storage.leases import nodes, pilots
from pandawn_server.storage.tasks.files import packed_version
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.dispatch.desks import Desk

PAGE = 500
"""Jobs read at once: some 15 ms of work where all are new, in which nobody is served."""

PAGE_INTERVAL = timedelta(seconds=1)
"""Time between two pages of jobs that should be known already: it finds those that became runnable in a
transaction which was long, or with a clock that was late."""

NODES_INTERVAL = timedelta(seconds=30)
"""Time between two looks for which nodes have live pilots."""

NODE_AGE = timedelta(minutes=5)
"""For how long a cache and the catalog are not compared while the cache says that nothing changed, and no server of
the catalog was lost (`watch_catalog`): the catalog's entry must be kept alive as well."""

READ_AGE = timedelta(minutes=1)
"""For how long what was read of a node is good before it is read again, in the background: a server of the catalog
may drop it alone."""

NODES_READ = 8
"""Nodes read in the way of a match, besides those that ask; others are read ahead."""

MAX_LIVE_NODES = 20_000
"""Nodes of one queue that are followed."""

PRUNED = 2000
"""Jobs that are looked up again when other processes turn out to have taken some."""


def feed_jobs(tx: Transaction, name: str, desk: Desk, now: datetime) -> None:
    """Takes in what became runnable since the last time, and at times a page of all that is runnable.

    A page is read at once where no job is known.
    """
    if not desk.is_begun:
        desk.newest = runnable.last_arrival(tx, name)
        desk.is_begun = True
    else:
        arrivals = runnable.arrived_since(tx, name, desk.newest, PAGE)
        if arrivals:
            desk.newest = Arrival(arrivals[-1].state_time, arrivals[-1].job_id)
            # More than a page at once: the rest is read ahead.
            desk.is_complete = desk.is_complete and len(arrivals) < PAGE
            _add(desk, arrivals, now)
    if not desk.matchmaker:
        # What is there is at the top.
        desk.page = None
        feed_page(tx, name, desk, now)
    elif desk.page_time is None or now - desk.page_time >= PAGE_INTERVAL:
        feed_page(tx, name, desk, now)


def feed_page(tx: Transaction, name: str, desk: Desk, now: datetime) -> bool:
    """Takes in the next page of all that is runnable; returns whether it was the last one."""
    desk.page_time = now
    ranks = runnable.ranked_after(tx, name, desk.page, PAGE, tests_only=desk.tests_only)
    if desk.matchmaker.room:
        take_in(tx, desk, [rank.job_id for rank in ranks], now)
    is_last = len(ranks) < PAGE
    desk.page = None if is_last else ranks[-1]
    desk.is_complete = desk.is_complete or is_last
    return is_last


def prune(tx: Transaction, desk: Desk) -> None:
    """Forgets those of the oldest jobs that are not runnable any more: other processes give jobs out too."""
    oldest = desk.matchmaker.oldest(PRUNED)
    desk.matchmaker.remove(set(oldest) - runnable.still_runnable(tx, oldest))


def take_in(tx: Transaction, desk: Desk, job_ids: Iterable[int], now: datetime) -> None:
    """Takes in those of the jobs that are runnable and not known yet."""
    unknown = [job_id for job_id in job_ids if _is_unknown(desk, job_id)]
    _add(desk, runnable.get_runnable(tx, unknown, tests_only=desk.tests_only), now)


def _is_unknown(desk: Desk, job_id: int) -> bool:
    return job_id not in desk.matchmaker and job_id not in desk.claiming


def _add(desk: Desk, found: Iterable[RunnableRow], now: datetime) -> None:
    jobs = [
        _runnable_job(job)
        for job in found
        if _is_unknown(desk, job.job_id) and (job.test or not desk.tests_only)
    ]
    desk.matchmaker.add(jobs, now)


def _runnable_job(job: RunnableRow) -> RunnableJob:
    inputs: list[tuple[int, int]] = []
    # Of what nobody can tell whether a node has it: no cache lists libraries, and a file without a
    # version is the same as no other.
    unlocated_bytes = job.library_bytes or 0
    for file in job.files:
        # LFN, size, URL, scope: as `storage.files.pack` puts them.
        version, size = packed_version(file), file[1]
        if version:
            inputs.append((file_key(file[3], file[0], version, size), size))
        else:
            unlocated_bytes += size
    return RunnableJob(
        job.job_id,
        job.priority,
        job.state_time,
        inputs,
        job.requirements,
        job.task_id,
        user=job.user,
        unlocated_bytes=unlocated_bytes,
        avoids=frozenset(job.avoided),
    )


def feed_nodes(
    context: Context,
    tx: Transaction,
    queue: Queue,
    desk: Desk,
    asking: Mapping[NodeKey, CacheState | None],
    now: datetime,
) -> set[NodeKey]:
    """Takes in what nodes hold: those that ask, those that changed, and some of the others.

    Returns the nodes of those asking whose caches and the catalog disagree. What is not known of a
    node while the catalog does not answer stays unknown, and its matches say so.
    """
    _follow_live_nodes(tx, queue, desk, now)
    wanted = _read_asking(context, desk, asking, now)
    if desk.unread:
        _read_unread(context, desk, NODES_READ, now, asking)
    return wanted


def _follow_live_nodes(tx: Transaction, queue: Queue, desk: Desk, now: datetime) -> None:
    if desk.nodes_time is not None and now - desk.nodes_time < NODES_INTERVAL:
        return
    desk.nodes_time = now
    live = set(pilots.live_nodes(tx, queue.name, MAX_LIVE_NODES))
    # What a node holds that gets no jobs is of no use to anybody.
    live -= nodes.suspended_nodes(tx, now).keys()
    for key in desk.live - live:
        desk.matchmaker.set_live(key, live=False)
    for key in live - desk.live:
        desk.matchmaker.set_live(key, live=True)
        if key not in desk.nodes:
            desk.unread[key] = None
    desk.live = live


def _read_asking(
    context: Context,
    desk: Desk,
    asking: Mapping[NodeKey, CacheState | None],
    now: datetime,
) -> set[NodeKey]:
    wanted: set[NodeKey] = set()
    due = {key: state for key, state in asking.items() if _is_due(desk, key, state, now)}
    if not due:
        return wanted
    reporting = [(key, state) for key, state in due.items() if state is not None]
    silent = [key for key, state in due.items() if state is None]
    try:
        for (key, _), (contents, is_wanted) in zip(
            reporting,
            context.catalog.meet(
                [(key, _version(desk, key), state) for key, state in reporting], now
            ),
            strict=True,
        ):
            desk.note(key, contents, now)
            if is_wanted:
                wanted.add(key)
        _read(context, desk, silent, now)
        for key, told in due.items():
            known = desk.nodes.get(key)
            if known is not None:
                known.state, known.met = told, now
    except UnavailableError:
        for key in due:
            desk.note(key, None, now)
    return wanted


def _is_due(desk: Desk, key: NodeKey, state: CacheState | None, now: datetime) -> bool:
    known = desk.nodes.get(key)
    return (
        known is None
        or key in desk.unread
        or known.state != state
        or now - known.met >= NODE_AGE
        or (desk.suspect is not None and known.met <= desk.suspect)
    )


def read_nodes(context: Context, desk: Desk, limit: int, now: datetime) -> int:
    """Takes in what up to `limit` live nodes hold that were never read, or not for long; returns how many."""
    count = _read_unread(context, desk, limit, now)
    chosen: list[NodeKey] = []
    while count + len(chosen) < limit and desk.nodes:
        # The oldest stand first, for whatever is read is put at the end.
        key = next(iter(desk.nodes))
        if now - desk.nodes[key].time < READ_AGE or key in chosen:
            break
        known = desk.nodes.pop(key)
        if key in desk.live:
            desk.nodes[key] = known
            chosen.append(key)
        else:
            desk.matchmaker.forget(key)
    _read_others(context, desk, chosen, now)
    return count + len(chosen)


def _read_unread(
    context: Context,
    desk: Desk,
    limit: int,
    now: datetime,
    asking: Collection[NodeKey] = (),
) -> int:
    chosen: list[NodeKey] = []
    for key in list(desk.unread):
        if key not in desk.live:
            # Read when it asks.
            desk.unread.pop(key, None)
        elif key not in asking and len(chosen) < limit:
            chosen.append(key)
    _read_others(context, desk, chosen, now)
    return len(chosen)


def _read_others(context: Context, desk: Desk, chosen: Sequence[NodeKey], now: datetime) -> None:
    try:
        _read(context, desk, chosen, now)
    except UnavailableError:
        # What was known of them stays: it is as old as it is, and no more than a hint.
        for key in chosen:
            desk.unread.pop(key, None)
            if key in desk.nodes:
                desk.nodes[key].time = now


def _read(context: Context, desk: Desk, keys: Sequence[NodeKey], now: datetime) -> None:
    if keys:
        answers = context.catalog.contents([(key, _version(desk, key)) for key in keys])
        for key, contents in zip(keys, answers, strict=True):
            desk.note(key, contents, now)


def _version(desk: Desk, key: NodeKey) -> Version | None:
    known = desk.nodes.get(key)
    return None if known is None else known.version
