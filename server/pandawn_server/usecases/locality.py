"""What nodes hold of the inputs of candidates, asked of the catalog in one round trip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.inventory import FileRef, NodeKey
from pandawn_server.domain.matching import NOTHING_KNOWN, Candidate, Share, Shares
from pandawn_server.domain.queues import Queue
from pandawn_server.domain.tasks import File
from pandawn_server.storage import jobs, pilots
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
) -> dict[NodeKey, Shares]:
    """For each node that asks, what it and the other live nodes hold of the candidates' inputs.

    Nodes with a live pilot on the queue count as live. When the catalog does not answer, nothing
    is known of any node, and the explanations say so.
    """
    job_ids = [job.job_id for job in candidates if job.input_bytes]
    others = {pilot.key for pilot in pilots.live_pilots(tx, queue.name, OTHER_NODES)}
    try:
        held = held_bytes(context, tx, job_ids, sorted({*asking, *others}))
    except UnavailableError:
        return dict.fromkeys(asking, NOTHING_KNOWN)
    return {
        key: Shares(
            known=True,
            here=held.get(key, {}),
            best_elsewhere=_best_elsewhere(held, key),
        )
        for key in asking
    }


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
    refs = list({file_ref(file) for read in files_of.values() for file in read})
    answers = context.catalog.holdings([(key, refs) for key in keys])
    held: dict[NodeKey, dict[int, int]] = {}
    for key, answer in zip(keys, answers, strict=True):
        if answer is None:
            continue
        # A size that differs from the task's is another file of that name: it does not help.
        here = {
            (ref, size_bytes)
            for ref, size_bytes in zip(refs, answer, strict=True)
            if size_bytes is not None
        }
        held[key] = {
            job_id: local
            for job_id, read in files_of.items()
            if (local := sum(f.size_bytes for f in read if (file_ref(f), f.size_bytes) in here))
        }
    return held


def _best_elsewhere(held: Mapping[NodeKey, Mapping[int, int]], asking: NodeKey) -> dict[int, Share]:
    best: dict[int, Share] = {}
    for key, by_job in held.items():
        if key == asking:
            continue
        for job_id, local in by_job.items():
            known = best.get(job_id)
            if known is None or local > known.local_bytes:
                best[job_id] = Share(key.node, local)
    return best
