"""Rules for well-formed values: each takes a value and returns what is wrong with it, or None.

The texts say what is allowed, and follow the path of the field in a sentence.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from pandawn_server.domain.catalog.file_version import is_version

MAX_LFN_BYTES = 255
"""Maximum length of an LFN: it becomes a file name, and file systems allow no more."""

MAX_URL_BYTES = 4096
"""Maximum length of a URL: the longest path that Linux opens."""

MAX_INT64 = 2**63 - 1
"""Largest number that the database and the contracts can hold."""

# Characters that break lines, move a terminal's cursor, change the text direction or are invisible: C0 and C1
# controls, line and paragraph separators, direction marks, zero-width spaces and joiners.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")
_GUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_REQUEST_ID = re.compile(r"[!-~]{1,64}")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}|adler32:[0-9a-f]{8}")
_CHECKSUM_DIGITS = {"sha256": 64, "md5": 32, "adler32": 8}
_ROOT_URL = re.compile(
    r"root://(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"/(?P<path>/+[^/].*)"
)
# No user: what is stored and shown should not carry identities and tokens.
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
    r"(?P<path>/.*)"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_CHARACTERS = 60


def shown(value: str) -> str:
    """A value quoted for a message: short, printable, one line."""
    cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
    return f"'{cut}'" if cut.isprintable() else ascii(cut)


def name_problem(value: str, max_characters: int) -> str | None:
    """Checks a name of a queue, user, dataset or site: it becomes a directory and a command line word."""
    if not value:
        return "must be set"
    if len(value) > max_characters:
        return f"has {len(value)} characters; {max_characters} are allowed"
    if not _NAME.fullmatch(value):
        return (
            f"{shown(value)} must consist of A-Z a-z 0-9 _ . - and begin with a letter, digit or _"
        )
    return None


def text_problem(value: str, max_bytes: int) -> str | None:
    """Checks free text for people: bounded, and harmless on a terminal."""
    size = len(value.encode())
    if size > max_bytes:
        return f"has {size} bytes; {max_bytes} are allowed"
    if _CONTROL.search(value):
        return f"{shown(value)} must not contain control characters"
    return None


def lfn_problem(value: str) -> str | None:
    """Checks a logical file name: a relative path, because the pilot makes a file of that name."""
    if not value:
        return "must be set"
    size = len(value.encode())
    if size > MAX_LFN_BYTES:
        return f"has {size} bytes; {MAX_LFN_BYTES} are allowed"
    if _CONTROL.search(value):
        return f"{shown(value)} must not contain control characters"
    # One search suffices for a usual name; the path parts are checked only if there are any.
    if value.startswith("/"):
        return f"{shown(value)} must not be an absolute path"
    if ("/" in value or value.startswith(".")) and not _is_clean_path(value):
        return f"{shown(value)} must not have empty, '.' or '..' path parts"
    return None


def host_problem(value: str) -> str | None:
    """Checks the host name of a node; DNS forbids underscores, but they are common."""
    if not value:
        return "must be set"
    if len(value) > 253:
        return f"has {len(value)} characters; 253 are allowed"
    if not _HOST.fullmatch(value):
        return f"{shown(value)} must be a host name: letters, digits, . - _"
    return None


def guid_problem(value: str) -> str | None:
    """Checks a globally unique identifier, as uuidgen and older tools write them."""
    if _GUID.fullmatch(value):
        return None
    return (
        f"{shown(value)} must be 1 to 64 letters, digits, - _ . : and begin with a letter or digit"
    )


def checksum_problem(value: str) -> str | None:
    """Checks a checksum with its algorithm; only one spelling is allowed, so that checksums can be compared."""
    if _CHECKSUM.fullmatch(value):
        return None
    # Capitals, and leading zeros that some storage systems omit: suggest the right spelling.
    algorithm, colon, digits = value.lower().partition(":")
    if algorithm == "adler32" and digits:
        digits = digits.zfill(_CHECKSUM_DIGITS[algorithm])
    if _CHECKSUM.fullmatch(mended := f"{algorithm}{colon}{digits}"):
        return f"{shown(value)} must be written {mended}"
    return f"{shown(value)} must be sha256: and 64, md5: and 32, or adler32: and 8 lower-case hexadecimal digits"


def version_problem(value: str) -> str | None:
    """Checks a file version, as the contract defines it."""
    if is_version(value):
        return None
    return f"{shown(value)} must be a file version as in pandawn.common.v1.File"


def sha256_problem(value: str) -> str | None:
    """Checks the identifier of a sandbox."""
    if _SHA256.fullmatch(value):
        return None
    return f"{shown(value)} must be 64 lower-case hexadecimal digits"


def request_id_problem(value: str) -> str | None:
    """Checks an identifier made by a caller or by the server: compared, never interpreted."""
    if not value:
        return "must be set"
    if not _REQUEST_ID.fullmatch(value):
        return f"{shown(value)} must be 1 to 64 printable ASCII characters without spaces"
    return None


def url_problem(value: str) -> str | None:
    """Checks the location of a file. Pilots and the command line know which schemes have transports."""
    if not value:
        return "must be set"
    size = len(value.encode())
    if size > MAX_URL_BYTES:
        return f"has {size} bytes; {MAX_URL_BYTES} are allowed"
    if _CONTROL.search(value):
        return f"{shown(value)} must not contain control characters"
    if value.startswith("root://"):
        return _root_url_problem(value)
    match = _URL.fullmatch(value)
    if match is None or (match["scheme"] == "file") is bool(match["host"]):
        return (
            f"{shown(value)} must be file:// and an absolute path, as in file:///data/a.root, "
            "or root:// with a host and a path, as in root://host:1094//data/a.root"
        )
    # URL parsers cut the path there, which would name another file.
    if "#" in value or "?" in value:
        return f"{shown(value)} must have %23 for # and %3F for ? in a name"
    return _climbing_problem(value, match["path"])


def _root_url_problem(value: str) -> str | None:
    # The second pair of slashes makes the path absolute. User names and options are rejected, because URLs are
    # stored and shown and must not carry identities or tokens.
    match = _ROOT_URL.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 1094) < 2**16:
        return (
            f"{shown(value)} must be root://, a host with or without a port, and // before the path, "
            "as in root://host:1094//data/a.root"
        )
    if "?" in match["path"]:
        return (
            f"{shown(value)} must not have a question mark: XRootD takes what follows it as options"
        )
    return _climbing_problem(value, match["path"])


def _climbing_problem(value: str, path: str) -> str | None:
    # Checked in both spellings, whether or not a transport decodes %2e.
    if any(".." in spelling.split("/") for spelling in (path, unquote(path))):
        return f"{shown(value)} must not have '..' path parts"
    return None


def range_problem(value: float, minimum: float, maximum: float, unit: str = "") -> str | None:
    """Checks a number against inclusive bounds."""
    if minimum <= value <= maximum:
        return None
    unit = f" {unit}" if unit else ""
    if maximum >= MAX_INT64:
        return f"is {value:,}{unit}; it must be at least {minimum:,}"
    return f"is {value:,}{unit}; it must be {minimum:,} to {maximum:,}{unit}"


def _is_clean_path(value: str) -> bool:
    return not any(part in {"", ".", ".."} for part in value.split("/"))
