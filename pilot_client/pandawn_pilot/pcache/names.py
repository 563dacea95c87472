"""What the files in a pcache are called: by the pilot that asked for them, or else by where they came from."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.durable import replace_text
from pandawn_pilot.file_names import Naming, is_good_name, name_of
from pandawn_pilot.pcache.layout import CLAIM, GUID, SOURCE

FORMAT_VERSION = 1
# Of what pcache and pilots write down about a file; the rest, if there is any, is not for us.
_MAX_BYTES = 8192
# As the contract has it.
_GUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(frozen=True, slots=True)
class Names:
    """Logical name, name space, GUID; the latter two may be empty."""

    lfn: str
    scope: str = ""
    guid: str = ""


def read_names(directory: str, entry: str, naming: Naming) -> Names | None:
    """The names of the file in an entry's directory; None when it has none that the catalog takes."""
    claim = _read_claim(f"{directory}/{CLAIM}")
    if claim is not None:
        return claim
    path = entry
    # What follows a question mark belongs to the name of a file, but not to that of a URL.
    if "?" in path and "://" in _read_line(f"{directory}/{SOURCE}"):
        path = path.partition("?")[0]
    scope, lfn = name_of(path, naming)
    guid = _read_line(f"{directory}/{GUID}")
    names = Names(lfn, scope, guid if _GUID.fullmatch(guid) else "")
    return names if _is_good(names) else None


def write_claim(directory: Path, names: Names) -> None:
    """Lets an entry's file be known by these names, as long as the entry lives: pcache removes it whole.

    Raises OSError. Does nothing for an entry that has them, or for names that the catalog refuses.
    """
    if not _is_good(names) or _read_claim(f"{directory}/{CLAIM}") == names:
        return
    document = {
        "version": FORMAT_VERSION,
        "lfn": names.lfn,
        "scope": names.scope,
        "guid": names.guid,
    }
    replace_text(directory / CLAIM, json.dumps(document))


def _is_good(names: Names) -> bool:
    has_good_guid = not names.guid or _GUID.fullmatch(names.guid) is not None
    return has_good_guid and is_good_name(names.scope, names.lfn)


def _read_claim(path: str) -> Names | None:
    text = _read(path)
    if not text:
        return None
    try:
        document = json.loads(text)
        if document["version"] != FORMAT_VERSION:
            return None
        names = Names(str(document["lfn"]), str(document["scope"]), str(document["guid"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return names if _is_good(names) else None


def _read_line(path: str) -> str:
    """The first line of one of pcache's small files; empty when it has none."""
    return _read(path).partition(b"\n")[0].decode(errors="surrogateescape").strip()


def _read(path: str) -> bytes:
    # Not by a stream: the first look at a large cache reads two small files for each of its own. No
    # links: where jobs may write to the tree, they could have root tell what only root may read.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _MAX_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
