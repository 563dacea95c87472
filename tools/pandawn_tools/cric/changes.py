"""Compares CRIC's queues with the existing documents, and makes the changes of an import.

CRIC decides the parameters that it lists. Others (where outputs go, how long a job waits for its files)
belong to the site. They do not change, nor do parameters whose fields cannot be read.
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
    """A change of one queue, and the queue of CRIC that causes it."""

    queue: CricQueue
    change: document_pb2.DocumentChange


def plan_changes(
    queues: Iterable[CricQueue], documents: Mapping[Key, parameters_pb2.QueueParameters]
) -> list[Planned]:
    """Returns changes for queues that are new or differ; none for queues that cannot be read."""
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
    # So that the change has a document even if all its parameters are unset.
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
    """Returns the existing queues that CRIC does not list."""
    listed = set(names)
    return sorted(k.name for k in documents if k.kind == QUEUE and k.name not in listed)


def take_back(planned: Sequence[Planned], violations: Iterable[DocumentViolation]) -> list[Planned]:
    """Returns the changes without the parts that the server refuses, which are recorded as wrong."""
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
                # Without a mask it would replace the whole document.
                dropped.add(violation.position)
    return [item for position, item in enumerate(planned) if position not in dropped]
