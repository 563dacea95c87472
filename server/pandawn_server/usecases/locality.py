"""What nodes hold of the inputs of candidates, asked of the catalog in one round trip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.inventory import FileRef, NodeKey
from pandawn_server.domain.matching import NOTHING_KNOWN, Candidate, Share, Shares
from pandawn_server.domain.queues import Queue
from pandawn_server.domain.tasks import File
from pandawn_server.storage import jobs, nodes, pilots
from pandawn_server.storage.database import Transaction
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.job_files import input_files, tasks_of

OTHER_NODES = 64
"""Live nodes, besides those that ask, whose caches are compared; bounds the work of one match."""


def file_ref(file: File) -> FileRef:
    """How the catalog is asked for a file."""
    return FileRef(lfn=file.lfn, scope=file.scope)


def shares_for(
    context: Context,
    tx: Transaction,
    queue: Queue,
    asking: Collection[NodeKey],
    candidates: Sequence[Candidate],
    now: datetime,
) -> dict[NodeKey, Shares]:
    """For each node that asks, what it and the other live nodes hold of the candidates' inputs.

    Nodes with a live pilot on the queue count as live, but for those that get no jobs. When the
    catalog does not answer, nothing is known of any node, and the explanations say so.
    """
    job_ids = [job.job_id for job in candidates if job.input_bytes]
    others = {pilot.key for pilot in pilots.live_pilots(tx, queue.name, OTHER_NODES)}
    if queue.locality_wait:
        # Only who waits for others needs to know which of them would never come.
        others -= suspended_nodes(tx, others, now).keys()
    try:
        held = held_bytes(context, tx, job_ids, sorted({*asking, *others}))
    except UnavailableError:
        return dict.fromkeys(asking, NOTHING_KNOWN)
    leaders = _leaders(held)
    return {
        key: Shares(
            known=True,
            here=held.get(key, {}),
            best_elsewhere=_best_elsewhere(leaders, key),
        )
        for key in asking
    }


def suspended_nodes(
    tx: Transaction, keys: Collection[NodeKey], now: datetime
) -> dict[NodeKey, str]:
    """Those nodes that get no jobs now, with the reasons."""
    found = nodes.get_nodes(tx, keys)
    return {key: node.suspend_reason for key, node in found.items() if node.is_suspended(now)}


def held_bytes(
    context: Context, tx: Transaction, job_ids: Collection[int], keys: Sequence[NodeKey]
) -> dict[NodeKey, dict[int, int]]:
    """Bytes of each job's inputs that each node holds; nothing held is left out.

    Raises `UnavailableError` when the catalog does not answer.
    """
    if not job_ids or not keys:
        return {}
    job_of = jobs.get_jobs(tx, job_ids)
    files_of = input_files(tx, job_of.values(), tasks_of(tx, job_of.values()))
    refs, reads = _numbered(files_of)
    answers = context.catalog.holdings([(key, refs) for key in keys])
    held: dict[NodeKey, dict[int, int]] = {}
    for key, answer in zip(keys, answers, strict=True):
        if answer is None:
            continue
        # A size that differs from the task's is another file of that name: it does not help.
        held[key] = {
            job_id: local
            for job_id, read in reads
            if (local := sum(size for number, size in read if answer[number] == size))
        }
    return held


def _numbered(
    files_of: Mapping[int, Sequence[File]],
) -> tuple[list[FileRef], list[tuple[int, list[tuple[int, int]]]]]:
    """The distinct files, and for each job the numbers and sizes of its own among them.

    Made once for all nodes: with many nodes in a batch, to name files anew for each was most of
    the time of a match.
    """
    numbers: dict[FileRef, int] = {}
    reads = [
        (job_id, [(numbers.setdefault(file_ref(f), len(numbers)), f.size_bytes) for f in read])
        for job_id, read in files_of.items()
    ]
    return list(numbers), reads


def _leaders(held: Mapping[NodeKey, Mapping[int, int]]) -> dict[int, list[Share]]:
    """For each job the two nodes that hold most of it, the first first: one of them is elsewhere."""
    leaders: dict[int, list[Share]] = {}
    for key, by_job in held.items():
        for job_id, local in by_job.items():
            best = leaders.setdefault(job_id, [])
            if len(best) < 2 or local > best[-1].local_bytes:
                best.append(Share(key.node, local))
                best.sort(key=lambda share: (-share.local_bytes, share.node))
                del best[2:]
    return leaders


def _best_elsewhere(leaders: Mapping[int, Sequence[Share]], asking: NodeKey) -> dict[int, Share]:
    return {
        job_id: share
        for job_id, best in leaders.items()
        if (share := next((s for s in best if s.node != asking.node), None)) is not None
    }
