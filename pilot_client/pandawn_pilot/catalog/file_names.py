"""Derives a file's name in the catalog from its path in a cache of the site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import md5

MAX_NAME_BYTES = 255

# The contract's rules of names; the server refuses a whole report for one name that breaks them.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_SCOPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# First parts of scopes for which Rucio uses a separate directory.
_SPLIT_SCOPES = ("user", "group")


@dataclass(frozen=True)
class Naming:
    """How a path becomes a name: its last `lfn_depth` parts, or scope and name in Rucio's layout.

    With a depth of 0 the whole path is the name. The default is the last part, as in `pandawn submit`.
    """

    lfn_depth: int = 1
    rucio: bool = False


def name_of(path: str, naming: Naming) -> tuple[str, str]:
    """Scope (may be empty) and LFN of the file at a relative path."""
    parts = path.split("/")
    if naming.rucio:
        # The hash proves that the path follows Rucio's layout.
        for scope in _scopes_in(parts):
            if f"/{path}".endswith(f"/{rucio_path(scope, parts[-1])}"):
                return scope, parts[-1]
    return "", "/".join(parts[-naming.lfn_depth :] if naming.lfn_depth else parts)


def rucio_path(scope: str, name: str) -> str:
    """The relative path of a file in Rucio's deterministic layout."""
    first, dot, rest = scope.partition(".")
    directory = f"{first}/{rest}" if dot and first in _SPLIT_SCOPES else scope
    text = f"{scope}:{name}".encode(errors="surrogateescape")
    digest = md5(text, usedforsecurity=False).hexdigest()
    return f"{directory}/{digest[:2]}/{digest[2:4]}/{name}"


def is_good_name(scope: str, lfn: str) -> bool:
    """Whether the catalog accepts this name."""
    try:
        size = len(lfn.encode())
    except UnicodeEncodeError:
        return False
    return (
        size <= MAX_NAME_BYTES
        and not any(part in ("", ".", "..") for part in lfn.split("/"))
        and not _CONTROL.search(lfn)
        and (not scope or _SCOPE.fullmatch(scope) is not None)
    )


def _scopes_in(parts: Sequence[str]) -> list[str]:
    """Possible scopes in a path of scope, two parts of a hash, and name."""
    if len(parts) < 4:
        return []
    scopes = [parts[-4]]
    if len(parts) > 4 and parts[-5] in _SPLIT_SCOPES:
        scopes.append(f"{parts[-5]}.{parts[-4]}")
    return scopes
