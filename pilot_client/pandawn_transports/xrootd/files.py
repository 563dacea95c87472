"""Queries of an XRootD server: files below a path, size and time of a file, its checksum."""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass

from pandawn_transports.stop import Stop
from pandawn_transports.xrootd.address import Location, Server
from pandawn_transports.xrootd.command import XrootdError, XrootdFault, run

# Timeout of a query of one file; the client itself gives up earlier.
QUESTION_SECONDS = 90.0
# Timeout of a checksum: a server that does not know it reads the file.
CHECKSUM_SECONDS = 1800.0
# Timeout of a listing: a million files over a slow connection.
LISTING_SECONDS = 1800.0

# XRootD 5 prints `-rw-r--r-- owner group size date time path`, XRootD 4 and other servers
# `-r-- date time size path`. All text after the last number is the path, including blanks.
_NEW_LINE = re.compile(
    r"(?P<kind>[d-])\S* +\S+ +\S+ +(?P<size>\d+) (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<path>/.*)"
)
_OLD_LINE = re.compile(
    r"(?P<kind>[d-])\S* +(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) +(?P<size>\d+) (?P<path>/.*)"
)
_SIZE = re.compile(r"^Size: +(?P<size>\d+)$", re.MULTILINE)
# In UTC, independent of the client's time zone (observed with XRootD 5.5).
_MODIFIED = re.compile(r"^MTime: +(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", re.MULTILINE)
_FLAGS = re.compile(r"^Flags: +(?P<flags>\d+)", re.MULTILINE)
_IS_DIRECTORY = 2
# The command reports unreadable directories on standard error, with status 0.
_INCOMPLETE = "result may be incomplete"
# Its error for a malformed listing: in the protocol, line breaks separate names.
_UNREADABLE = "Invalid response"


@dataclass(frozen=True)
class ListedFile:
    """A file as listed; bytes of its path that are not UTF-8 are surrogates.

    `modify_time` is in seconds since 1970, 0 if the server does not know it.
    """

    path: str
    size_bytes: int
    modify_time: int = 0


def list_tree(top: Location, stop: Stop | None = None) -> list[ListedFile]:
    """All files below a directory, in the server's order.

    Raises XrootdError, also for an incomplete listing: otherwise its missing files would be reported as
    deleted. XrootdFault.MISSING: the directory does not exist.
    """
    what = f"cannot list {top.url}"
    command = ["xrdfs", top.server.url, "ls", "-l", "-R", top.path]
    try:
        answer = run(command, what, seconds=LISTING_SECONDS, stop=stop)
    except XrootdError as error:
        if _UNREADABLE in str(error):
            text = f"{error}; a file name there may contain a line break: rename the file"
            raise XrootdError(error.fault, text) from error
        raise
    if _INCOMPLETE in answer.remarks:
        raise XrootdError(
            XrootdFault.FORBIDDEN,
            f"{what}: the server could not list all directories; give it permission to read them",
        )
    return parse_listing(answer.output)


def parse_listing(output: bytes) -> list[ListedFile]:
    """The files in the output of `xrdfs ls -l -R`.

    A malformed line is the rest of a name with a line break: both lines are ignored.
    """
    files: list[ListedFile] = []
    is_file = False
    # Not splitlines(), which also splits at other characters, which names can contain.
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
    """Size and `modify_time` of a file; the time is in seconds since 1970, None if unknown."""

    size_bytes: int
    modify_time: int | None


def stat_of(file: Location, stop: Stop | None = None) -> FileStat:
    """Queries a file. Raises XrootdError, with FORBIDDEN for a directory."""
    what = f"cannot query {file.url}"
    answer = run(
        ["xrdfs", file.server.url, "stat", file.path], what, seconds=QUESTION_SECONDS, stop=stop
    )
    text = answer.output.decode("utf-8", "replace")
    size, flags = _SIZE.search(text), _FLAGS.search(text)
    if size is None or flags is None:
        raise XrootdError(XrootdFault.OTHER, f"{what}: xrdfs returned no size")
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
        # A server that does not know the time prints an invalid date.
        return 0


def size_of(file: Location, stop: Stop | None = None) -> int:
    """Size of a file in bytes. Raises XrootdError, with FORBIDDEN for a directory."""
    return stat_of(file, stop).size_bytes


def checksum_of(file: Location, stop: Stop | None = None) -> str:
    """The server's checksum of a file as `adler32:<hex>` or `md5:<hex>`; empty if it has neither.

    Raises XrootdError.
    """
    try:
        answer = run(
            ["xrdfs", file.server.url, "query", "checksum", file.path],
            f"cannot query the checksum of {file.url}",
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
        f"cannot query the configuration of {server.url}",
        seconds=QUESTION_SECONDS,
        stop=stop,
    )
    # `0:adler32,1:md5`, or an echo of the query if it computes none.
    kinds = re.findall(r"\d+:(\w+)", answer.output.decode("ascii", "replace").lower())
    return next((kind for kind in ("adler32", "md5") if kind in kinds), "")
