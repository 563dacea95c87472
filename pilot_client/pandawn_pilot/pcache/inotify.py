"""Linux's inotify, by way of the C library: one watch a directory, events with the names in it."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from types import TracebackType
from typing import NamedTuple

# From <sys/inotify.h>.
_CREATE = 0x100
_DELETE = 0x200
_MOVED_FROM = 0x40
_MOVED_TO = 0x80
_DELETE_SELF = 0x400
_MOVE_SELF = 0x800
_ONLY_DIRECTORIES = 0x01000000
# Flags of an event: of a directory; some were lost; the watch is over, its directory gone or taken
# back; the directory goes by another name.
DIRECTORY = 0x40000000
OVERFLOW = 0x4000
IGNORED = 0x8000
MOVED_SELF = _MOVE_SELF
_WANTED = (
    _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES
)

_HEAD = struct.Struct("iIII")
# Thousands of events; what does not fit is read next.
_BUFFER_BYTES = 256 * 1024


class Event(NamedTuple):
    """Something happened to `name` in the directory of a watch; `watch` is -1 for an overflow."""

    watch: int
    mask: int
    name: str


class WatchError(Exception):
    """Nothing can be watched, or nothing more: the text says why."""


class Inotify:
    """One queue of events. Raises WatchError where the kernel, or its limits, allow none."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        try:
            number = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError as error:
            raise WatchError("this C library has no inotify") from error
        if number < 0:
            raise WatchError(f"no inotify: {os.strerror(ctypes.get_errno())}")
        self._descriptor: int = number

    def __enter__(self) -> Inotify:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def add(self, directory: str) -> int | None:
        """Watches a directory; the same number as before if it is watched already, None if it is gone.

        Raises WatchError, above all when the user's watches are used up.
        """
        path = os.fsencode(directory)
        number: int = self._library.inotify_add_watch(self._descriptor, path, _WANTED)
        if number >= 0:
            return number
        code = ctypes.get_errno()
        if code in (errno.ENOENT, errno.ENOTDIR):
            return None
        why = (
            "fs.inotify.max_user_watches is used up" if code == errno.ENOSPC else os.strerror(code)
        )
        raise WatchError(f"{directory} cannot be watched: {why}")

    def remove(self, watch: int) -> None:
        """Takes a watch back; one that is over already is no error."""
        self._library.inotify_rm_watch(self._descriptor, watch)

    def wait(self, seconds: float, *also: int) -> bool:
        """Waits for events, or for one of other descriptors to have something to read."""
        return bool(select.select([self._descriptor, *also], [], [], max(seconds, 0.0))[0])

    def read(self) -> list[Event]:
        """The events that are there; none when there are none."""
        try:
            content = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:
            return []
        events: list[Event] = []
        begin = 0
        while begin < len(content):
            watch, mask, _, length = _HEAD.unpack_from(content, begin)
            begin += _HEAD.size
            name = content[begin : begin + length].rstrip(b"\0")
            events.append(Event(watch, mask, os.fsdecode(name)))
            begin += length
        return events
