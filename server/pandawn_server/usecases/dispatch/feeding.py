"""Feeds a desk with runnable jobs from the database and inventories from the catalog, in small steps."""

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
"""Jobs per read: about 15 ms of work if all are new, and no call is served meanwhile."""

PAGE_INTERVAL = timedelta(seconds=1)
"""Interval between pages of jobs that should already be known. They find jobs that became runnable in a long
transaction, or by a clock that was late."""

NODES_INTERVAL = timedelta(seconds=30)
"""Interval between reads of which nodes have live pilots."""

NODE_AGE = timedelta(minutes=5)
"""How long an unchanged cache is not compared with the catalog, unless a catalog server was lost
(`watch_catalog`). The comparison also keeps the catalog's entry alive."""

READ_AGE = timedelta(minutes=1)
"""Age at which a node's contents are read again in the background: a catalog server may drop an entry at any
time."""

NODES_READ = 8
"""Nodes read during a match, besides those that poll; others are read ahead."""

MAX_LIVE_NODES = 20_000
"""Maximum number of nodes tracked per queue."""

PRUNED = 2000
"""Jobs checked again when other processes turn out to have claimed some."""


def feed_jobs(tx: Transaction, name: str, desk: Desk, now: datetime) -> None:
    """Adds jobs that became runnable since the last call, and from time to time a page of all runnable jobs.

    Reads a page at once when the desk knows no job.
    """
    if not desk.is_begun:
        desk.newest = runnable.last_arrival(tx, name)
        desk.is_begun = True
    else:
        arrivals = runnable.arrived_since(tx, name, desk.newest, PAGE)
        if arrivals:
            desk.newest = Arrival(arrivals[-1].state_time, arrivals[-1].job_id)
            # When there is more than a page, the rest is read ahead.
            desk.is_complete = desk.is_complete and len(arrivals) < PAGE
            _add(desk, arrivals, now)
    if not desk.matchmaker:
        # Whatever there is comes first in the order of rank.
        desk.page = None
        feed_page(tx, name, desk, now)
    elif desk.page_time is None or now - desk.page_time >= PAGE_INTERVAL:
        feed_page(tx, name, desk, now)


def feed_page(tx: Transaction, name: str, desk: Desk, now: datetime) -> bool:
    """Adds the next page of all runnable jobs; returns whether it was the last one."""
    desk.page_time = now
    ranks = runnable.ranked_after(tx, name, desk.page, PAGE, tests_only=desk.tests_only)
    if desk.matchmaker.room:
        load_jobs(tx, desk, [rank.job_id for rank in ranks], now)
    is_last = len(ranks) < PAGE
    desk.page = None if is_last else ranks[-1]
    desk.is_complete = desk.is_complete or is_last
    return is_last


def prune(tx: Transaction, desk: Desk) -> None:
    """Removes those of the oldest jobs that are no longer runnable: other processes give out jobs too."""
    oldest = desk.matchmaker.oldest(PRUNED)
    desk.matchmaker.remove(set(oldest) - runnable.still_runnable(tx, oldest))


def load_jobs(tx: Transaction, desk: Desk, job_ids: Iterable[int], now: datetime) -> None:
    """Adds those of the jobs that are runnable and not yet known."""
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
    # Inputs that no node can be shown to hold: no cache lists libraries, and a file without a version cannot be
    # compared.
    unlocated_bytes = job.library_bytes or 0
    for file in job.files:
        # LFN, size, URL, scope: the order of `storage.files.pack`.
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
    """Reads what nodes hold: those that poll, those that changed, and some others.

    Returns the polling nodes whose caches and the catalog disagree. While the catalog does not answer, what a
    node holds stays unknown, and its matches say so.
    """
    _follow_live_nodes(tx, queue, desk, now)
    requested = _read_asking(context, desk, asking, now)
    if desk.unread:
        _read_unread(context, desk, NODES_READ, now, asking)
    return requested


def _follow_live_nodes(tx: Transaction, queue: Queue, desk: Desk, now: datetime) -> None:
    if desk.nodes_time is not None and now - desk.nodes_time < NODES_INTERVAL:
        return
    desk.nodes_time = now
    live = set(pilots.live_nodes(tx, queue.name, MAX_LIVE_NODES))
    # Files on a node that gets no jobs are of no use.
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
    requested: set[NodeKey] = set()
    due = {key: state for key, state in asking.items() if _is_due(desk, key, state, now)}
    if not due:
        return requested
    reporting = [(key, state) for key, state in due.items() if state is not None]
    silent = [key for key, state in due.items() if state is None]
    try:
        for (key, _), (contents, is_requested) in zip(
            reporting,
            context.catalog.meet(
                [(key, _version(desk, key), state) for key, state in reporting], now
            ),
            strict=True,
        ):
            desk.record_contents(key, contents, now)
            if is_requested:
                requested.add(key)
        _read(context, desk, silent, now)
        for key, state in due.items():
            known = desk.nodes.get(key)
            if known is not None:
                known.state, known.met = state, now
    except UnavailableError:
        for key in due:
            desk.record_contents(key, None, now)
    return requested


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
    """Reads the contents of up to `limit` live nodes that are unread or due again; returns how many were read."""
    count = _read_unread(context, desk, limit, now)
    chosen: list[NodeKey] = []
    while count + len(chosen) < limit and desk.nodes:
        # The first was read longest ago, see `Desk.record_contents`.
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
            # It is read when it polls.
            desk.unread.pop(key, None)
        elif key not in asking and len(chosen) < limit:
            chosen.append(key)
    _read_others(context, desk, chosen, now)
    return len(chosen)


def _read_others(context: Context, desk: Desk, chosen: Sequence[NodeKey], now: datetime) -> None:
    try:
        _read(context, desk, chosen, now)
    except UnavailableError:
        # Keeps what was known of them: it is only a hint.
        for key in chosen:
            desk.unread.pop(key, None)
            if key in desk.nodes:
                desk.nodes[key].time = now


def _read(context: Context, desk: Desk, keys: Sequence[NodeKey], now: datetime) -> None:
    if keys:
        answers = context.catalog.contents([(key, _version(desk, key)) for key in keys])
        for key, contents in zip(keys, answers, strict=True):
            desk.record_contents(key, contents, now)


def _version(desk: Desk, key: NodeKey) -> Version | None:
    known = desk.nodes.get(key)
    return None if known is None else known.version
