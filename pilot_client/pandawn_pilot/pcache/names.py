"""The names of files in a pcache: from the pilot that requested them, else from their source."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pandawn_client.file_version import is_version
from pandawn_pilot.catalog.file_names import Naming, is_good_name, name_of
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.pcache.layout import CLAIM, GUID, SOURCE
from pandawn_transports.base import SourceStat

FORMAT_VERSION = 2
# Longest part read of the small files of pcache and pilots.
_MAX_BYTES = 8192
# The contract's rule.
_GUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(frozen=True)
class Names:
    """LFN, scope, GUID, version; all but the first may be empty."""

    lfn: str
    scope: str = ""
    guid: str = ""
    version: str = ""


# Inode, mtime, size: if they are equal, the content is unchanged.
Marks = tuple[int, int, int]


@dataclass(frozen=True)
class Claim:
    """A pilot's record of a file: its names, and the data and source that it verified as this version."""

    names: Names
    marks: Marks = (0, 0, 0)
    source: SourceStat | None = None


def read_names(directory: str, entry: str, naming: Naming, marks: Marks) -> Names | None:
    """The names of the file in an entry's directory; None if the catalog does not accept them.

    The version is known only if a pilot verified this data, by its marks.
    """
    claim = read_claim(directory)
    if claim is not None:
        return claim.names if claim.marks == marks else replace(claim.names, version="")
    path = entry
    # A question mark is a part of a file's name, but ends the path of a URL.
    if "?" in path and "://" in _read_line(f"{directory}/{SOURCE}"):
        path = path.partition("?")[0]
    scope, lfn = name_of(path, naming)
    guid = _read_line(f"{directory}/{GUID}")
    names = Names(lfn, scope, guid if _GUID.fullmatch(guid) else "")
    return names if _is_good(names) else None


def write_claim(directory: Path, claim: Claim) -> None:
    """Stores the names of an entry's file; pcache removes them together with the entry.

    Raises OSError. Does nothing if they are stored already, or if the catalog refuses the names.
    """
    names = claim.names
    if not _is_good(names) or read_claim(str(directory)) == claim:
        return
    document = {
        "format": FORMAT_VERSION,
        "lfn": names.lfn,
        "scope": names.scope,
        "guid": names.guid,
        "version": names.version,
        "marks": claim.marks,
        "source": None if claim.source is None else asdict(claim.source),
    }
    replace_text(directory / CLAIM, json.dumps(document))


def read_claim(directory: str) -> Claim | None:
    """A pilot's record of the file in an entry's directory; None if there is none.

    The tree is world-writable: versions in records of accounts other than ours and root are ignored.
    """
    text, is_ours = _read(f"{directory}/{CLAIM}")
    if not text:
        return None
    try:
        document = json.loads(text)
        if document["format"] != FORMAT_VERSION:
            return None
        version = str(document["version"]) if is_ours else ""
        names = Names(str(document["lfn"]), str(document["scope"]), str(document["guid"]), version)
        inode, data_ns, size = (int(mark) for mark in document["marks"])
        source = document["source"]
        seen = None if source is None else SourceStat(**source)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not _is_good(names) or (version and not is_version(version)):
        return None
    return Claim(names, (inode, data_ns, size), seen)


def _is_good(names: Names) -> bool:
    has_good_guid = not names.guid or _GUID.fullmatch(names.guid) is not None
    return has_good_guid and is_good_name(names.scope, names.lfn)


def _read_line(path: str) -> str:
    """The first line of one of pcache's small files; empty if missing."""
    return _read(path)[0].partition(b"\n")[0].decode(errors="surrogateescape").strip()


def _read(path: str) -> tuple[bytes, bool]:
    """The beginning of a file, and whether this account or root owns it."""
    # Without a stream, as the first scan reads two small files per entry. Links are not followed: jobs that
    # can write to the tree could make root report private files.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return b"", False
    try:
        is_ours = os.fstat(descriptor).st_uid in (0, os.geteuid())
        return os.read(descriptor, _MAX_BYTES), is_ours
    except OSError:
        return b"", False
    finally:
        os.close(descriptor)
