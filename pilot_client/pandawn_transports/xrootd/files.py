"""Questions to an XRootD server: what lies below a path, how large a file is, what its checksum is."""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass

from pandawn_transports.stop import Stop
from pandawn_transports.xrootd.address import Location, Server
from pandawn_transports.xrootd.command import XrootdError, XrootdFault, run

# A question about one file; the client itself gives up earlier.
QUESTION_SECONDS = 90.0
# A server computes a checksum that it does not know by reading the file.
CHECKSUM_SECONDS = 1800.0
# A million files over a slow line.
LISTING_SECONDS = 1800.0

# XRootD 5 prints `-rw-r--r-- owner group size date time path`, XRootD 4 and servers of other makes
# `-r-- date time size path`. Everything behind the last number is the path, blanks and all.
_NEW_LINE = re.compile(
    r"(?P<kind>[d-])\S* +\S+ +\S+ +(?P<size>\d+) (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<path>/.*)"
)
_OLD_LINE = re.compile(
    r"(?P<kind>[d-])\S* +(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) +(?P<size>\d+) (?P<path>/.*)"
)
_SIZE = re.compile(r"^Size: +(?P<size>\d+)$", re.MULTILINE)
# In UTC, whatever zone the client is in (seen of XRootD 5.5).
_MODIFIED = re.compile(r"^MTime: +(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", re.MULTILINE)
_FLAGS = re.compile(r"^Flags: +(?P<flags>\d+)", re.MULTILINE)
_IS_DIRECTORY = 2
# The server reports directories that it cannot read on standard error, and succeeds.
_INCOMPLETE = "result may be incomplete"
# What it says of a list that it does not understand: in the protocol names end with their lines.
_UNREADABLE = "Invalid response"


@dataclass(frozen=True)
class ListedFile:
    """A file as listed; bytes of its path that are not UTF-8 are surrogates.

    `modify_time` is in seconds since 1970, 0 where the server does not know it.
    """

    path: str
    size_bytes: int
    modify_time: int = 0


def list_tree(top: Location, stop: Stop | None = None) -> list[ListedFile]:
    """All files below a directory, in the server's order.

    Raises XrootdError, also when the server could not list all: who takes a part for the whole
    would report the rest as deleted. XrootdFault.MISSING: there is no such directory.
    """
    what = f"cannot list {top.url}"
    command = ["xrdfs", top.server.url, "ls", "-l", "-R", top.path]
    try:
        answer = run(command, what, seconds=LISTING_SECONDS, stop=stop)
    except XrootdError as error:
        if _UNREADABLE in str(error):
            text = f"{error}; the name of a file there may have a line break in it: rename it"
            raise XrootdError(error.fault, text) from error
        raise
    if _INCOMPLETE in answer.remarks:
        raise XrootdError(
            XrootdFault.FORBIDDEN,
            f"{what}: the server could not list all of its directories; see that it may read them",
        )
    return parse_listing(answer.output)


def parse_listing(output: bytes) -> list[ListedFile]:
    """The files in what `xrdfs ls -l -R` has printed.

    A line that is none belongs to a name with a line break in it: neither part is a file.
    """
    files: list[ListedFile] = []
    is_file = False
    # Not splitlines(), to which more characters end a line than may stand in a name.
    for line in output.decode("utf-8", "surrogateescape").split("\n"):
        match = _NEW_LINE.fullmatch(line) or _OLD_LINE.fullmatch(line)
        if match is None:
            if line and is_file:
                files.pop()
                is_file = False
            continue
        is_file = match["kind"] == "-"
        if is_file:
            files.append(ListedFile(match["path"], int(match["size"]), _seconds(match["time"])))
    return files


@dataclass(frozen=True)
class FileStat:
    """What a server says of a file; `modify_time` is in seconds since 1970, None where it tells none."""

    size_bytes: int
    modify_time: int | None


def stat_of(file: Location, stop: Stop | None = None) -> FileStat:
    """Looks at a file. Raises XrootdError, with FORBIDDEN for a directory."""
    what = f"cannot look at {file.url}"
    answer = run(
        ["xrdfs", file.server.url, "stat", file.path], what, seconds=QUESTION_SECONDS, stop=stop
    )
    text = answer.output.decode("utf-8", "replace")
    size, flags = _SIZE.search(text), _FLAGS.search(text)
    if size is None or flags is None:
        raise XrootdError(XrootdFault.OTHER, f"{what}: xrdfs gives no size")
    if int(flags["flags"]) & _IS_DIRECTORY:
        raise XrootdError(XrootdFault.FORBIDDEN, f"{what}: it is a directory")
    return FileStat(int(size["size"]), _modify_time(text))


def _modify_time(text: str) -> int | None:
    found = _MODIFIED.search(text)
    if found is None:
        return None
    return _seconds(found["time"])


def _seconds(text: str) -> int:
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        # A server that does not know the time prints an impossible date.
        return 0


def size_of(file: Location, stop: Stop | None = None) -> int:
    """Size of a file in bytes. Raises XrootdError, with FORBIDDEN for a directory."""
    return stat_of(file, stop).size_bytes


def checksum_of(file: Location, stop: Stop | None = None) -> str:
    """The server's checksum of a file as `adler32:<hex>` or `md5:<hex>`; empty if it keeps neither.

    Raises XrootdError.
    """
    try:
        answer = run(
            ["xrdfs", file.server.url, "query", "checksum", file.path],
            f"cannot ask for the checksum of {file.url}",
            seconds=CHECKSUM_SECONDS,
            stop=stop,
        )
    except XrootdError as error:
        if error.fault is XrootdFault.UNSUPPORTED:
            return ""
        raise
    words = answer.output.decode("ascii", "replace").lower().split()
    if len(words) != 2 or words[0] not in ("adler32", "md5"):
        return ""
    width = {"adler32": 8, "md5": 32}[words[0]]
    return f"{words[0]}:{words[1].rjust(width, '0')}"


def checksum_kind(server: Server, stop: Stop | None = None) -> str:
    """`adler32` or `md5` if the server computes such checksums, else empty. Raises XrootdError."""
    answer = run(
        ["xrdfs", server.url, "query", "config", "chksum"],
        f"cannot ask {server.url} for its configuration",
        seconds=QUESTION_SECONDS,
        stop=stop,
    )
    # `0:adler32,1:md5`, or the question itself where it computes none.
    kinds = re.findall(r"\d+:(\w+)", answer.output.decode("ascii", "replace").lower())
    return next((kind for kind in ("adler32", "md5") if kind in kinds), "")
