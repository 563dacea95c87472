"""The command `pandawn-pcache-hook`: reports changes of a node's cache to the catalog.

For caches other than the pilot's own, such as pcache, and for files that are placed on a node by other
means. Such changes have no sequence number and are always applied.

Exit statuses: 0 done; 2 wrong usage; 3 refused by the server; 4 the server, or the catalog behind
it, could not be reached in time; 5 the cache itself could not be read.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from pandawn.common.v1.common_pb2 import File, FileRef
from pandawn.filecatalog.v1 import filecatalog_pb2 as wire
from pandawn_client.calls import CALL_TIMEOUT_SECONDS, call
from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.client import MAX_FILES_PER_MESSAGE
from pandawn_pilot.hooks.command import (
    STATUSES,
    CacheError,
    ExitStatus,
    Run,
    UsageError,
    add_command,
    node_of,
    server_of,
    utf8,
)
from pandawn_pilot.hooks.pcache_sync import add_sync
from pandawn_pilot.hooks.session import add_session_options, connect, helps_to_repeat
from pandawn_pilot.hooks.xrootd_sync import add_xrootd
from pandawn_pilot.node.utf8 import use_utf8
from pandawn_pilot.release import add_version
from pandawn_pilot.sizes import size_text

_PROGRAM = "pandawn-pcache-hook"

_STANDARD_INPUT = 0

_EPILOG = (
    """\
LIST is a file with one JSON object per line, or - for the standard input:
  {"lfn": "data.1.root", "size_bytes": 1048576, "scope": "user.anna", "guid": "..."}
add needs "lfn" and "size_bytes"; delete needs "lfn" (and "scope"), or "guid".

"""
    + STATUSES
)

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
EntryT = TypeVar("EntryT", File, FileRef)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    if arguments is None:
        use_utf8()
    given = _parser().parse_args(arguments)
    try:
        run: Run = given.run
        sys.stdout.write(run(given) + "\n")
    except UsageError as error:
        return _complain(ExitStatus.USAGE, error.reason, str(error))
    except CacheError as error:
        return _complain(ExitStatus.NO_CACHE, error.reason, str(error))
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except CallError as error:
        if error.transient and error.code is not grpc.StatusCode.UNAUTHENTICATED:
            text = f"{error.message} (server {server_of(given)}, retried for {given.timeout:g} s)"
            return _complain(ExitStatus.UNREACHABLE, error.reason, text)
        return _complain(ExitStatus.REFUSED, error.reason, error.message)
    return ExitStatus.DONE


def _complain(status: ExitStatus, reason: str, text: str) -> int:
    sys.stderr.write(f"{_PROGRAM}: {reason}: {text}\n")
    return status


# The sub-commands: each reads all its input before the first call, and returns its message.


def _add(given: argparse.Namespace) -> str:
    files = [_file_argument(text, given.scope) for text in given.files]
    files += [_listed_file(entry, given.scope) for entry in _entries(given.list)]
    if given.guid:
        if len(files) != 1:
            raise UsageError(
                "INVALID_OPTION", f"--guid requires exactly one file, {len(files)} are given"
            )
        files[0].guid = given.guid
    node = node_of(given)
    with _Hook(given) as hook:
        for batch in _batches(files):
            request = wire.AddFilesRequest(site=given.site, node=node, files=batch)
            hook.call(hook.catalog.AddFiles, request)
    size = sum(file.size_bytes for file in files)
    return (
        f"{_count(len(files))}, {size_text(size)}, added to the catalog for {node} at {given.site}"
    )


def _delete(given: argparse.Namespace) -> str:
    if given.guid:
        refs = [FileRef(guid=name) for name in given.names]
    else:
        refs = [FileRef(lfn=name, scope=given.scope) for name in given.names]
    refs += [_listed_ref(entry, given.scope) for entry in _entries(given.list)]
    node = node_of(given)
    deleted = 0
    with _Hook(given) as hook:
        for batch in _batches(refs):
            request = wire.DeleteFilesRequest(site=given.site, node=node, files=batch)
            deleted += hook.call(hook.catalog.DeleteFiles, request).deleted_count
    asked = _count(len(refs))
    return f"{deleted} of {asked} deleted from the catalog for {node} at {given.site}"


def _flush(given: argparse.Namespace) -> str:
    node = node_of(given)
    # Chosen here, so that the server recognizes a retry after a lost response.
    epoch = 1 + secrets.randbelow(2**64 - 1)
    request = wire.FlushCacheRequest(site=given.site, node=node, epoch=epoch)
    with _Hook(given) as hook:
        response = hook.call(hook.catalog.FlushCache, request)
    return f"{_count(response.forgotten_count)} of {node} at {given.site} forgotten"


class _Hook:
    """A connection to the server that retries each call for a bounded time."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._connection = connect(given)
        self.catalog = self._connection.catalog
        self._deadline = time.monotonic() + given.timeout

    def __enter__(self) -> _Hook:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT
    ) -> ResponseT:
        """Calls a method, with retries until the timeout. Raises CallError.

        Repeating a change is harmless if only its response was lost.
        """
        backoff = Backoff()
        while True:
            left = self._deadline - time.monotonic()
            try:
                return call(method, request, timeout=min(max(left, 1.0), CALL_TIMEOUT_SECONDS))
            except CallError as failure:
                pause = backoff.next_pause(failure.retry_after)
                if (
                    not helps_to_repeat(failure, self._connection)
                    or time.monotonic() + pause > self._deadline
                ):
                    raise
                time.sleep(pause)


# Reading what was given.


def _file_argument(text: str, scope: str) -> File:
    # Split at the last "=": an LFN may contain one, a size does not.
    lfn, _, size = text.rpartition("=")
    if not lfn or not (size.isascii() and size.isdecimal()) or int(size) >= 2**63:
        raise UsageError("INVALID_FILE", f"{text!r} is not LFN=SIZE with the size in bytes")
    return File(lfn=lfn, size_bytes=int(size), scope=scope)


class _Entry:
    """One line of a list: an object, and its position for errors."""

    def __init__(self, where: str, line: str) -> None:
        self.where = where
        try:
            self._fields = json.loads(line)
        except ValueError as error:
            raise self.error(f"not JSON: {error}") from error
        if not isinstance(self._fields, dict):
            raise self.error("not a JSON object")

    def error(self, text: str) -> UsageError:
        """An error about this line."""
        return UsageError("INVALID_LIST", f"{self.where}: {text}")

    def has(self, field: str) -> bool:
        """Whether the line sets a field."""
        return bool(self._fields.get(field) not in (None, ""))

    def read(self, message: EntryT) -> EntryT:
        """Fills a message. Raises UsageError for unknown fields."""
        try:
            return json_format.ParseDict(self._fields, message)
        except (json_format.ParseError, ValueError, TypeError) as error:
            raise self.error(str(error)) from error


def _listed_file(entry: _Entry, scope: str) -> File:
    # In a message a missing size is 0, which is a valid size.
    if not entry.has("lfn") or not entry.has("size_bytes"):
        raise entry.error('needs "lfn" and "size_bytes"')
    file = entry.read(File())
    file.scope = file.scope or scope
    return file


def _listed_ref(entry: _Entry, scope: str) -> FileRef:
    if entry.has("lfn") == entry.has("guid"):
        raise entry.error('needs either "lfn" or "guid"')
    ref = entry.read(FileRef())
    if ref.lfn:
        ref.scope = ref.scope or scope
    return ref


def _entries(path: str | None) -> Iterator[_Entry]:
    if path is None:
        return
    name = "standard input" if path == "-" else path
    try:
        # Open the descriptor itself: the list is UTF-8 whatever the locale is.
        source = _STANDARD_INPUT if path == "-" else path
        with open(source, encoding="utf-8", closefd=path != "-") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _Entry(f"{name}, line {number}", line)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("UNREADABLE_LIST", f"{name} cannot be read: {error}") from error


def _batches(items: Sequence[EntryT]) -> Iterator[Sequence[EntryT]]:
    if not items:
        raise UsageError(
            "EMPTY_FILE_LIST", "no files are given; name files, or a list with --file LIST"
        )
    for begin in range(0, len(items), MAX_FILES_PER_MESSAGE):
        yield items[begin : begin + MAX_FILES_PER_MESSAGE]


def _count(files: int) -> str:
    return f"{files} file" if files == 1 else f"{files} files"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Reports changes of a node's cache to the catalog of a Pandawn server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = add_command(
        commands,
        "add",
        _add,
        "files are in the cache now: complete, with verified sizes",
        _EPILOG,
    )
    add.add_argument(
        "files", nargs="*", type=utf8, metavar="LFN=SIZE", help="a file and its size in bytes"
    )
    add.add_argument("--guid", type=utf8, default="", help="GUID of the file, if only one is given")
    _add_list(add)
    delete = add_command(commands, "delete", _delete, "files are no longer in the cache", _EPILOG)
    delete.add_argument(
        "names", nargs="*", type=utf8, metavar="NAME", help="LFNs, or GUIDs with --guid"
    )
    delete.add_argument("--guid", action="store_true", help="the names are GUIDs")
    _add_list(delete)
    add_command(commands, "flush", _flush, "the cache was emptied", _EPILOG)
    add_sync(commands, STATUSES)
    add_xrootd(commands, STATUSES)
    for command in commands.choices.values():
        add_session_options(command)
    return parser


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", dest="list", metavar="LIST", help="more files; see below")
    parser.add_argument(
        "--scope", type=utf8, default="", help="scope of LFNs that are given without one"
    )


if __name__ == "__main__":
    sys.exit(main())
