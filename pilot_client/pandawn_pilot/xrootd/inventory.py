"""From what an XRootD server lists to what the catalog is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pandawn_pilot.catalog.file_names import Naming, is_good_name, name_of
from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.xrootd.versions import VersionOf
from pandawn_transports.xrootd.files import ListedFile


@dataclass(frozen=True)
class Inventory:
    """Files by name, and the paths of those that go without one."""

    files: tuple[CachedFile, ...]
    # The catalog takes no such name, or no URL can say it.
    unusable: tuple[str, ...]
    # Several files of different sizes would have the name: it says nothing of any of them.
    ambiguous: tuple[str, ...]


def take_inventory(
    listed: Iterable[ListedFile],
    prefix: str,
    naming: Naming,
    scope: str = "",
    version_of: VersionOf = lambda _file, _scope: "",
) -> Inventory:
    """Names the files below `prefix` by their paths from there; `scope` is for those that name none."""
    named: dict[FileKey, list[ListedFile]] = {}
    unusable: list[str] = []
    top = prefix.rstrip("/") + "/"
    for file in listed:
        if not file.path.startswith(top):
            continue
        told_scope, lfn = name_of(file.path.removeprefix(top), naming)
        if is_good_name(told_scope or scope, lfn) and "?" not in file.path:
            version = version_of(file, told_scope or scope)
            named.setdefault((told_scope or scope, lfn, version), []).append(file)
        else:
            unusable.append(file.path)
    held = tuple(
        CachedFile(lfn, files[0].size_bytes, of_scope, version=version)
        for (of_scope, lfn, version), files in named.items()
        if len({file.size_bytes for file in files}) == 1
    )
    ambiguous = tuple(
        file.path
        for files in named.values()
        if len({file.size_bytes for file in files}) > 1
        for file in files
    )
    return Inventory(held, tuple(unusable), ambiguous)
