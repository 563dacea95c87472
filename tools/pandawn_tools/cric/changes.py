"""What an import would change: CRIC's word against the documents that are there.

CRIC decides the parameters that it speaks of. What it does not know (where outputs go, how long a job
waits for its files) is the site's, and so is what nobody could understand: both stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pandawn.queueconfig.v1 import document_pb2, parameters_pb2
from pandawn.queueconfig.v1.document_pb2 import DocumentViolation
from pandawn_tools.cric.findings import Outcome
from pandawn_tools.cric.reader import VITAL, CricQueue
from pandawn_tools.queuefiles.document import QUEUE, Key
from pandawn_tools.queuefiles.parameters import assign, parameters, value_of


@dataclass(frozen=True, slots=True)
class Planned:
    """A change of one queue, and what CRIC said that led to it."""

    queue: CricQueue
    change: document_pb2.DocumentChange


def plan_changes(
    queues: Iterable[CricQueue], documents: Mapping[Key, parameters_pb2.QueueParameters]
) -> list[Planned]:
    """Returns changes for the queues that are to be made or differ; none for those left as they are."""
    planned = []
    for queue in queues:
        if not queue.is_usable:
            continue
        change = _change(queue, documents.get(Key(QUEUE, queue.name)))
        if change is not None:
            planned.append(Planned(queue, change))
    return planned


def _change(
    queue: CricQueue, before: parameters_pb2.QueueParameters | None
) -> document_pb2.DocumentChange | None:
    change = document_pb2.DocumentChange(kind=QUEUE, name=queue.name)
    # So that the change is one of a document with all of it unset.
    change.parameters.SetInParent()
    for name, value in queue.says.items():
        parameter = parameters()[name]
        if before is not None:
            if value_of(before, parameter) == value:
                continue
            change.update_mask.paths.append(name)
        if value is not None:
            assign(change.parameters, parameter, value)
    return None if before is not None and not change.update_mask.paths else change


def vanished(
    names: Iterable[str], documents: Mapping[Key, parameters_pb2.QueueParameters]
) -> list[str]:
    """Returns queues that are there and that CRIC does not list (any more)."""
    listed = set(names)
    return sorted(k.name for k in documents if k.kind == QUEUE and k.name not in listed)


def take_back(planned: Sequence[Planned], violations: Iterable[DocumentViolation]) -> list[Planned]:
    """Returns the changes without what the server refuses, which is written down as wrong."""
    dropped: set[int] = set()
    for violation in violations:
        if violation.position >= len(planned):
            continue
        item = planned[violation.position]
        name = violation.field.partition(".")[0]
        said = f"the server: {violation.description}"
        if name not in parameters() or name in VITAL:
            item.queue.note(name, Outcome.FATAL, name, said)
            dropped.add(violation.position)
            continue
        item.queue.note(name, Outcome.WRONG, name, said)
        item.change.parameters.ClearField(name)  # type: ignore[arg-type]
        mask = item.change.update_mask.paths
        if name in mask:
            mask.remove(name)
            if not mask:
                # Without a mask it would be the whole document.
                dropped.add(violation.position)
    return [item for position, item in enumerate(planned) if position not in dropped]
