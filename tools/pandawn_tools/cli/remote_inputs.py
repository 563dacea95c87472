"""Input files on other machines: what a line of a list says of them, or else their storage."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pandawn_tools.cli.checksums import Wish, read_checksum
from pandawn_transports import TransferError, has_transport, transport_for

# Questions at a time: each is a process and a connection.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a storage: what is not known is None, or an empty checksum.

    `modify_time_ns` is in nanoseconds since 1970, by the storage's clock.
    """

    url: str
    size_bytes: int | None
    checksum: str
    modify_time_ns: int | None = None


def is_remote(text: str) -> bool:
    """Whether the text is a URL for a transport; paths and `file:` URLs are looked at directly."""
    return "://" in text and not text.startswith("file:") and has_transport(text)


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
        raise ValueError("write it as URL, and SIZE and CHECKSUM behind it")
    try:
        return RemoteFile(transport_for(url).normal(url), size, checksum)
    except TransferError as error:
        raise ValueError(str(error)) from error


def _cut_word(text: str) -> tuple[str, str]:
    """The text without its last word, and that; the former is empty where there is only one."""
    words = text.rsplit(None, 1)
    return (words[0], words[1]) if len(words) == 2 else ("", text)


def look_up(texts: Iterable[str], wish: Wish) -> dict[str, RemoteFile | Exception]:
    """Reads each text and asks the storages for what is missing: sizes, times, and checksums if wanted.

    What is wrong with one is its answer: ValueError, or TransferError from the storage.
    """
    distinct = list(dict.fromkeys(texts))

    def look_up_one(text: str) -> RemoteFile | Exception:
        try:
            return _complete(read_line(text), wish)
        except (ValueError, TransferError) as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(distinct, pool.map(look_up_one, distinct), strict=True))


def _complete(file: RemoteFile, wish: Wish) -> RemoteFile:
    size, known, modify_time_ns = file.size_bytes, file.checksum, None
    transport = transport_for(file.url)
    if size is None:
        found = transport.look(file.url)
        size, modify_time_ns = found.size_bytes, found.mtime_ns or None
    # Not asked for unless wished: a server may have to read the whole file for it.
    if wish is Wish.ALWAYS and not known:
        known = transport.checksum(file.url)
        if not known:
            raise ValueError(
                "its server keeps no checksums; write them behind the sizes, or leave --checksum out"
            )
    return RemoteFile(file.url, size, known, modify_time_ns)
