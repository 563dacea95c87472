"""What the files in a pcache are called: by the pilot that asked for them, or else by where they came from."""

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
# Of what pcache and pilots write down about a file; the rest, if there is any, is not for us.
_MAX_BYTES = 8192
# As the contract has it.
_GUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(frozen=True)
class Names:
    """Logical name, name space, GUID, version; all but the first may be empty."""

    lfn: str
    scope: str = ""
    guid: str = ""
    version: str = ""


# Inode, time of modification, size: while they are the same, so is the content.
Marks = tuple[int, int, int]


@dataclass(frozen=True)
class Claim:
    """What a pilot knows of a file: its names, and which data, from which source, it saw to be that version."""

    names: Names
    marks: Marks = (0, 0, 0)
    source: SourceStat | None = None


def read_names(directory: str, entry: str, naming: Naming, marks: Marks) -> Names | None:
    """The names of the file in an entry's directory; None when it has none that the catalog takes.

    Its version is known only where a pilot has seen just this data, by its marks.
    """
    claim = read_claim(directory)
    if claim is not None:
        return claim.names if claim.marks == marks else replace(claim.names, version="")
    path = entry
    # What follows a question mark belongs to the name of a file, but not to that of a URL.
    if "?" in path and "://" in _read_line(f"{directory}/{SOURCE}"):
        path = path.partition("?")[0]
    scope, lfn = name_of(path, naming)
    guid = _read_line(f"{directory}/{GUID}")
    names = Names(lfn, scope, guid if _GUID.fullmatch(guid) else "")
    return names if _is_good(names) else None


def write_claim(directory: Path, claim: Claim) -> None:
    """Lets an entry's file be known by these names, as long as the entry lives: pcache removes it whole.

    Raises OSError. Does nothing for an entry that has them, or for names that the catalog refuses.
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
    """What a pilot has written down of the file in an entry's directory.

    The tree is open to all accounts: what another account than ours, or root, has written says
    nothing of versions.
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
        told = None if source is None else SourceStat(**source)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not _is_good(names) or (version and not is_version(version)):
        return None
    return Claim(names, (inode, data_ns, size), told)


def _is_good(names: Names) -> bool:
    has_good_guid = not names.guid or _GUID.fullmatch(names.guid) is not None
    return has_good_guid and is_good_name(names.scope, names.lfn)


def _read_line(path: str) -> str:
    """The first line of one of pcache's small files; empty when it has none."""
    return _read(path)[0].partition(b"\n")[0].decode(errors="surrogateescape").strip()


def _read(path: str) -> tuple[bytes, bool]:
    """The beginning of a file, and whether it is ours or root's."""
    # Not by a stream: the first look at a large cache reads two small files for each of its own. No
    # links: where jobs may write to the tree, they could have root tell what only root may read.
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
