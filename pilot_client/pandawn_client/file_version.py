"""Versions of files, which distinguish files of the same name and size.

The forms are part of the contract, see `File` in `pandawn/common/v1/common.proto`. The server has the
same in `domain/catalog/file_version.py`; tests check both with the same examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

UNIQUE = "site"
"""Version of a file in a scope that the site declares immutable."""

_NANOSECONDS = 10**9
_SOURCE_DIGITS = 32
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


@dataclass(frozen=True)
class FileVersion:
    """A parsed version.

    `checksum` is as in the contract, empty for kinds without; `modify_time_ns` (since 1970, None except for
    MODIFY_TIME) and `inode` are those of the source; `source` is the mark of the source's URL
    (`source_mark`), empty if any source is valid.
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
    """The version of the file at `url`, empty if nothing but its name and size is known.

    `checksum` is well-formed or empty; `modify_time_ns` is in nanoseconds since 1970; `unique` says that the
    site declares the scope immutable, which only the server knows.
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
