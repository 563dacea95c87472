"""Input files on XRootD servers: what a line of a list says of them, or else the server."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pandawn_tools.cli.checksums import Wish, read_checksum
from pandawn_transports.xrootd import files
from pandawn_transports.xrootd.address import Location, parse_location
from pandawn_transports.xrootd.command import XrootdError

# Questions at a time: each is a process and a connection.
_AT_ONCE = 8

_PREFIX = "root://"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a server: what is not known is None, or an empty checksum.

    `modify_time` is in seconds since 1970, by the server's clock.
    """

    location: Location
    size_bytes: int | None
    checksum: str
    modify_time: int | None = None


def is_remote(text: str) -> bool:
    """Whether the text names a file on an XRootD server."""
    return text.startswith(_PREFIX)


def read_line(text: str) -> RemoteFile:
    """Reads `URL [SIZE [CHECKSUM]]`; blanks may be part of the URL. Raises ValueError with the reason."""
    url, checksum = text.strip(), ""
    head, word = _cut_word(url)
    if head and (found := read_checksum(word)) is not None:
        if word.isdecimal():
            if _cut_word(head)[1].isdecimal():
                raise ValueError(
                    f"is {word} a size or a checksum? Write adler32:{word}, or %20 for blanks in the path"
                )
        else:
            url, checksum = head, found
    size = None
    head, word = _cut_word(url)
    if head and word.isdecimal():
        url, size = head, int(word)
    if not is_remote(url):
        raise ValueError("write it as root://HOST:PORT//PATH, and SIZE and CHECKSUM behind it")
    return RemoteFile(parse_location(url), size, checksum)


def _cut_word(text: str) -> tuple[str, str]:
    """The text without its last word, and that; the former is empty where there is only one."""
    words = text.rsplit(None, 1)
    return (words[0], words[1]) if len(words) == 2 else ("", text)


def look_up(texts: Iterable[str], wish: Wish) -> dict[str, RemoteFile | Exception]:
    """Reads each text and asks the servers for what is missing: sizes, times, and checksums if wanted.

    What is wrong with one is its answer: ValueError, or XrootdError from the server.
    """
    distinct = list(dict.fromkeys(texts))

    def look_up_one(text: str) -> RemoteFile | Exception:
        try:
            return _complete(read_line(text), wish)
        except (ValueError, XrootdError) as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(distinct, pool.map(look_up_one, distinct), strict=True))


def _complete(file: RemoteFile, wish: Wish) -> RemoteFile:
    size, known, modify_time = file.size_bytes, file.checksum, None
    if size is None:
        found = files.stat_of(file.location)
        size, modify_time = found.size_bytes, found.modify_time
    # Not asked for unless wished: a server may have to read the whole file for it.
    if wish is Wish.ALWAYS and not known:
        known = files.checksum_of(file.location)
        if not known:
            raise ValueError(
                "its server keeps no checksums; write them behind the sizes, or leave --checksum out"
            )
    return RemoteFile(file.location, size, known, modify_time)
