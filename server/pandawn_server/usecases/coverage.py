"""How much of a set of files the nodes of a site hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pandawn_server.catalog.contents import HeldFiles, file_key
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.inventory import CachedFile, NodeKey
from pandawn_server.domain.principals import Principal
from pandawn_server.storage import files, nodes, tasks
from pandawn_server.usecases.authority import require_sight_of_task
from pandawn_server.usecases.cancel import task_not_found
from pandawn_server.usecases.context import Context

_NODES_AT_ONCE = 500
"""Nodes whose contents are asked for together: bounds what is in memory at a time."""

_SCAN_FACTOR = 8
"""A look-up by bisection costs about as much as passing over 8 files."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Files, and the sum of their sizes in bytes."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the nodes of a site hold of `total`.

    `copies` has what is on how many nodes, by that number, 0 for what is nowhere; `shares` what each
    node holds that holds any, the most bytes first.
    """

    site: str
    total: Amount
    copies: dict[int, Amount]
    shares: list[tuple[str, Amount]]


def site_not_found(site: str) -> NotFoundError:
    """The error for a site without nodes."""
    return NotFoundError(
        "SITE_NOT_FOUND",
        f"no node of a site {site!r} has ever reported; `pandawn nodes` lists those that have",
        metadata={"site": site},
    )


def cover_files(context: Context, site: str, wanted: Sequence[CachedFile]) -> Coverage:
    """Coverage of files by LFN; one of size 0 counts with the size that a node holds.

    Raises `NotFoundError` (SITE_NOT_FOUND).
    """
    with context.db.read() as tx:
        keys = nodes.site_nodes(tx, site)
    if not keys:
        raise site_not_found(site)
    return _Count(wanted).over(context, site, keys)


def cover_task(context: Context, site: str, task_id: int, by: Principal) -> Coverage:
    """Coverage of a task's input files, at its own site where none is given.

    Raises `NotFoundError` (TASK_NOT_FOUND, SITE_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_TASK).
    """
    with context.db.read() as tx:
        task = tasks.get_tasks(tx, [task_id]).get(task_id)
        if task is None:
            raise task_not_found(task_id)
        require_sight_of_task(tx, by, task)
        inputs = files.task_inputs(tx, task_id)
    wanted = [CachedFile(file.lfn, file.size_bytes, file.scope, file.guid) for file in inputs]
    return cover_files(context, site or task.site, wanted)


class _Count:
    """Counts nodes and sizes of each wanted file."""

    def __init__(self, wanted: Sequence[CachedFile]) -> None:
        # Jobs of a task may share inputs.
        self._sizes = {file_key(file.scope, file.lfn): file.size_bytes for file in wanted}
        self._copies = dict.fromkeys(self._sizes, 0)
        self._seen_sizes: dict[int, int] = {}

    def over(self, context: Context, site: str, keys: Sequence[NodeKey]) -> Coverage:
        """Goes over all nodes."""
        shares: list[tuple[str, Amount]] = []
        for begin in range(0, len(keys), _NODES_AT_ONCE):
            some = keys[begin : begin + _NODES_AT_ONCE]
            answers = context.catalog.contents([(key, None) for key in some])
            for key, contents in zip(some, answers, strict=True):
                if contents is not None and contents.files is not None:
                    amount = self._add(contents.files)
                    if amount.files:
                        shares.append((key.node, amount))
        shares.sort(key=lambda share: (-share[1].size_bytes, -share[1].files, share[0]))
        copies: dict[int, Amount] = {}
        for file, count in self._copies.items():
            before = copies.get(count, Amount())
            copies[count] = Amount(before.files + 1, before.size_bytes + self._size(file))
        total = Amount(len(self._sizes), sum(amount.size_bytes for amount in copies.values()))
        return Coverage(site, total, dict(sorted(copies.items())), shares)

    def _add(self, held: HeldFiles) -> Amount:
        count = size_bytes = 0
        for key, size in self._common(held):
            # Another size is another file of that name: it does not help.
            if self._sizes[key] in {0, size}:
                self._copies[key] += 1
                self._seen_sizes[key] = size
                count += 1
                size_bytes += size
        return Amount(count, size_bytes)

    def _common(self, held: HeldFiles) -> Iterator[tuple[int, int]]:
        if len(held) < _SCAN_FACTOR * len(self._sizes):
            return ((key, size) for key, size in held if key in self._sizes)
        found = ((key, held.size(key)) for key in self._sizes)
        return ((key, size) for key, size in found if size is not None)

    def _size(self, file: int) -> int:
        return self._sizes[file] or self._seen_sizes.get(file, 0)
