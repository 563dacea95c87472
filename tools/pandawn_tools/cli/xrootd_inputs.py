"""Input files on XRootD servers: what a line of a list says of them, or else the server."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pandawn_pilot.xrootd import files
from pandawn_pilot.xrootd.address import Location, parse_location
from pandawn_pilot.xrootd.command import XrootdError

# Questions at a time: each is a process and a connection.
_AT_ONCE = 8

_LINE = re.compile(
    r"(?P<url>root://.*?)(?:\s+(?P<size>\d+))?(?:\s+(?P<checksum>adler32:[0-9a-f]{8}|md5:[0-9a-f]{32}))?"
)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a server: `size_bytes` is None and `checksum` empty while they are not known."""

    location: Location
    size_bytes: int | None
    checksum: str


def is_remote(text: str) -> bool:
    """Whether the text names a file on an XRootD server."""
    return text.startswith("root://")


def read_line(text: str) -> RemoteFile:
    """Reads `URL [SIZE] [CHECKSUM]`. Raises ValueError with the reason."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("write it as root://HOST:PORT//PATH, and SIZE and CHECKSUM behind it")
    size = int(match["size"]) if match["size"] else None
    return RemoteFile(parse_location(match["url"]), size, match["checksum"] or "")


def look_up(texts: Iterable[str], *, checksum: bool) -> dict[str, RemoteFile | Exception]:
    """Reads each text and asks the servers for sizes that are missing, and for checksums if wanted.

    What is wrong with one is its answer: ValueError, or XrootdError from the server.
    """
    distinct = list(dict.fromkeys(texts))

    def look_up_one(text: str) -> RemoteFile | Exception:
        try:
            return _complete(read_line(text), checksum=checksum)
        except (ValueError, XrootdError) as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(distinct, pool.map(look_up_one, distinct), strict=True))


def _complete(file: RemoteFile, *, checksum: bool) -> RemoteFile:
    size, known = file.size_bytes, file.checksum
    if size is None:
        size = files.size_of(file.location)
    if checksum and not known:
        known = files.checksum_of(file.location)
        if not known:
            raise ValueError(
                "its server keeps no checksums; write them behind the sizes, or leave --checksum out"
            )
    return RemoteFile(file.location, size, known)
