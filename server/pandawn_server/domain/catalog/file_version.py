"""Versions of files, which distinguish files of the same name and size.

The formats are part of the contract, see `File` in `pandawn/common/v1/common.proto`. The pilot's
copy is `pandawn_client/file_version.py`; both are tested with the same examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from urllib.parse import unquote, urlsplit

UNIQUE = "site"
"""Version of a file in a scope that the site declares immutable."""

_NANOSECONDS = 10**9
_SOURCE_DIGITS = 32
# Default ports of the URL schemes that pilots can fetch from.
_DEFAULT_PORTS = {"root": 1094}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_SCOPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORM = re.compile(
    r"site|sha256:[0-9a-f]{64}|(?:adler32:[0-9a-f]{8}|md5:[0-9a-f]{32}"
    r"|mtime:(?:0|-?[1-9][0-9]{0,11})\.[0-9]{9}/(?:0|[1-9][0-9]{0,19}))@[0-9a-f]{32}"
)


class VersionKind(Enum):
    """The property on which a version is based."""

    UNKNOWN = ""
    UNIQUE = "site"
    SHA256 = "sha256"
    MD5 = "md5"
    ADLER32 = "adler32"
    MODIFY_TIME = "mtime"


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A parsed version.

    `checksum` is as in the contracts, empty if the kind has none. `modify_time_ns` (nanoseconds since 1970)
    and `inode` are those of the source; the time is None unless the kind is MODIFY_TIME. `source` is the
    `source_mark` of the source's URL, empty if any source may serve the file.
    """

    kind: VersionKind
    checksum: str = ""
    modify_time_ns: int | None = None
    inode: int = 0
    source: str = ""


def source_mark(url: str) -> str:
    """The mark of a source's URL in versions: 32 hexadecimal digits."""
    return sha256(url.encode()).hexdigest()[:_SOURCE_DIGITS]


def file_version(
    url: str,
    *,
    checksum: str = "",
    modify_time_ns: int | None = None,
    inode: int = 0,
    unique: bool = False,
) -> str:
    """The version of the file at `url`, empty if only its name and size are known.

    `checksum` is well-formed or empty; `modify_time_ns` is in nanoseconds since 1970. `unique`
    says that the site declares the scope immutable (`is_unique`).
    """
    if unique:
        return UNIQUE
    if checksum.startswith("sha256:"):
        return checksum
    if checksum:
        return f"{checksum}@{source_mark(url)}"
    if modify_time_ns is None:
        return ""
    seconds, nanoseconds = divmod(modify_time_ns, _NANOSECONDS)
    return f"mtime:{seconds}.{nanoseconds:09d}/{inode}@{source_mark(url)}"


def is_version(text: str) -> bool:
    """Whether a text is a well-formed version; the empty text is not."""
    return _FORM.fullmatch(text) is not None


def parse_version(text: str) -> FileVersion:
    """Parses a version; the empty text is of kind UNKNOWN. Raises `ValueError` if it is malformed."""
    if not text:
        return FileVersion(VersionKind.UNKNOWN)
    if not is_version(text):
        raise ValueError(f"{text!r} is not a version of a file")
    facts, _, source = text.partition("@")
    word, _, value = facts.partition(":")
    kind = VersionKind(word)
    if kind is VersionKind.MODIFY_TIME:
        time, _, inode = value.partition("/")
        seconds, _, nanoseconds = time.partition(".")
        time_ns = int(seconds) * _NANOSECONDS + int(nanoseconds)
        return FileVersion(kind, "", time_ns, int(inode), source)
    return FileVersion(kind, facts if value else "", source=source)


def is_unique(scope: str, lfn: str, url: str, immutable_scopes: Iterable[str]) -> bool:
    """Whether a file is in a scope declared immutable by the site's entries `SCOPE=URL-PREFIX`.

    The file must be below the entry's prefix, under its own name. A user may write any scope, LFN and URL
    into a task, and other users read the file that is cached for it.
    """
    if not scope:
        return False
    start = f"{scope}="
    prefixes = [entry[len(start) :] for entry in immutable_scopes if entry.startswith(start)]
    if not prefixes or (place := _place(url)) is None:
        return False
    name = lfn.split("/")
    return any(
        above.server == place.server
        and above.path == place.path[: len(above.path)]
        and place.path[len(above.path) :][-len(name) :] == name
        for above in map(_place, prefixes)
        if above is not None
    )


def immutable_scope_problem(entry: str) -> str | None:
    """The error message for an entry of `immutable_scopes`, None if it is valid."""
    scope, equals, prefix = entry.partition("=")
    if not equals or not _SCOPE.fullmatch(scope):
        return f"{entry[:64]!r} must be SCOPE=URL, as in data25=root://se.example.org//atlas/data25"
    place = _place(prefix)
    if place is None or not place.path:
        return (
            f"{prefix[:64]!r} must be file:///PATH or root://HOST:PORT//PATH and name a directory; "
            "it must not contain '.' or '..' as a part, ? or #, nor % unless it is a file: URL"
        )
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Server and path of a URL, normalized."""

    server: tuple[str, str, int]
    path: list[str]


def _place(url: str) -> _Place | None:
    """The place of a URL, None if it is ambiguous: then no entry matches it."""
    scheme, found, rest = url.partition("://")
    if not found or not _SCHEME.fullmatch(scheme) or "?" in rest or "#" in rest:
        return None
    host, _, path = rest.partition("/")
    # The `file` transport decodes escapes such as %2F; a data server may or may not.
    if scheme != "file" and "%" in path:
        return None
    segments = [unquote(segment) for segment in path.split("/")]
    if any(part in {".", ".."} or "/" in part for part in segments):
        return None
    try:
        parts = urlsplit(f"{scheme}://{host}")
        server = (scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(scheme, 0))
    except ValueError:
        return None
    return _Place(server, [segment for segment in segments if segment])
