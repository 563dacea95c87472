"""How much of a set of files the nodes of a site hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pandawn_server.catalog.contents import HeldFiles, key_of, name_key
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.catalog.inventory import CachedFile, site_not_found
from pandawn_server.domain.tasks.tasks import task_not_found
from pandawn_server.storage.leases import nodes
from pandawn_server.storage.tasks import files, tasks
from pandawn_server.usecases.access.reach import require_sight_of_task
from pandawn_server.usecases.context import Context

_NODES_AT_ONCE = 500
"""Nodes whose contents are read together: bounds the memory used."""

_SCAN_FACTOR = 8
"""A look-up by bisection costs about as much as scanning 8 files."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of files, and the sum of their sizes in bytes."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the nodes of a site hold of `total`.

    `copies` maps a number of nodes to the files that are on so many, 0 for those on none. `shares` is what each
    node holds, largest first; nodes that hold none are left out.
    """

    site: str
    total: Amount
    copies: dict[int, Amount]
    shares: list[tuple[str, Amount]]


def cover_files(context: Context, site: str, wanted: Sequence[CachedFile]) -> Coverage:
    """Coverage of files by LFN.

    A file without a version matches any version; one of size 0 counts with the size on the node.
    Raises `NotFoundError` (SITE_NOT_FOUND).
    """
    return _Count([_Wanted(file) for file in wanted]).over(context, site)


def cover_task(context: Context, site: str, task_id: int, by: Principal) -> Coverage:
    """Coverage of a task's input files, by default at the task's own site.

    Raises `NotFoundError` (TASK_NOT_FOUND, SITE_NOT_FOUND) and `ForbiddenError` (NOT_YOUR_TASK).
    """
    with context.db.read() as tx:
        task = tasks.get_tasks(tx, [task_id]).get(task_id)
        if task is None:
            raise task_not_found(task_id)
        require_sight_of_task(tx, by, task)
        inputs = files.task_inputs(tx, task_id)
    # As in dispatch, an input without a version counts as held nowhere.
    wanted = [
        _Wanted(
            CachedFile(file.lfn, file.size_bytes, file.scope, file.guid, file.version), exactly=True
        )
        for file in inputs
    ]
    return _Count(wanted).over(context, site or task.site)


class _Wanted:
    """A file to look for, and what was found; with `exactly`, a file without a version is held nowhere."""

    __slots__ = ("copies", "exactly", "file", "key", "name", "size_bytes")

    def __init__(self, file: CachedFile, *, exactly: bool = False) -> None:
        self.file = file
        self.exactly = exactly
        self.name = name_key(file.scope, file.lfn)
        self.key = key_of(self.name, file.version, file.size_bytes)
        self.copies = 0
        self.size_bytes = file.size_bytes

    def is_held(self, key: int, size: int) -> bool:
        """Whether a file with the same name, by key and size, is the wanted one."""
        version, wanted = self.file.version, self.file.size_bytes
        if version and not wanted:
            return key == key_of(self.name, version, size)
        if version:
            return key == self.key
        return not self.exactly and wanted in {0, size}


class _Count:
    """Counts nodes and sizes for each wanted file."""

    def __init__(self, wanted: Sequence[_Wanted]) -> None:
        # Jobs of a task may share inputs.
        self._wanted = {one.key: one for one in wanted}
        self._by_name: dict[int, list[_Wanted]] = {}
        for one in self._wanted.values():
            self._by_name.setdefault(one.name, []).append(one)

    def over(self, context: Context, site: str) -> Coverage:
        """Counts over all nodes of a site. Raises `NotFoundError` (SITE_NOT_FOUND)."""
        with context.db.read() as tx:
            keys = nodes.site_nodes(tx, site)
        if not keys:
            raise site_not_found(site)
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
        for one in self._wanted.values():
            before = copies.get(one.copies, Amount())
            copies[one.copies] = Amount(before.files + 1, before.size_bytes + one.size_bytes)
        total = Amount(len(self._wanted), sum(amount.size_bytes for amount in copies.values()))
        return Coverage(site, total, dict(sorted(copies.items())), shares)

    def _add(self, held: HeldFiles) -> Amount:
        found: dict[int, int] = {}
        for name, key, size in self._of_wanted_names(held):
            for one in self._by_name[name]:
                if one.is_held(key, size):
                    # A node may hold several versions of a name that match.
                    found[one.key] = max(size, found.get(one.key, 0))
        for key, size in found.items():
            self._wanted[key].copies += 1
            self._wanted[key].size_bytes = size
        return Amount(len(found), sum(found.values()))

    def _of_wanted_names(self, held: HeldFiles) -> Iterator[tuple[int, int, int]]:
        if len(held) < _SCAN_FACTOR * len(self._by_name):
            return (row for row in held if row[0] in self._by_name)
        return (row for name in self._by_name for row in held.of_name(name))
