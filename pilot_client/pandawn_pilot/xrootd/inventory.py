"""Converts the listing of an XRootD server to an inventory for the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pandawn_pilot.catalog.file_names import Naming, is_good_name, name_of
from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.xrootd.versions import VersionOf
from pandawn_transports.xrootd.files import ListedFile


@dataclass(frozen=True)
class Inventory:
    """The named files, and the paths of files without a valid name."""

    files: tuple[CachedFile, ...]
    # The catalog does not accept the name, or it cannot be a part of a URL.
    unusable: tuple[str, ...]
    # Several files of different sizes would have the same name.
    ambiguous: tuple[str, ...]


def take_inventory(
    listed: Iterable[ListedFile],
    prefix: str,
    naming: Naming,
    scope: str = "",
    version_of: VersionOf = lambda _file, _scope: "",
) -> Inventory:
    """Names the files below `prefix` by their relative paths; `scope` is the default scope."""
    named: dict[FileKey, list[ListedFile]] = {}
    unusable: list[str] = []
    top = prefix.rstrip("/") + "/"
    for file in listed:
        if not file.path.startswith(top):
            continue
        path_scope, lfn = name_of(file.path.removeprefix(top), naming)
        if is_good_name(path_scope or scope, lfn) and "?" not in file.path:
            version = version_of(file, path_scope or scope)
            named.setdefault((path_scope or scope, lfn, version), []).append(file)
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
