"""Linux's inotify through the C library: one watch per directory, events with the names in it."""

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
# Flags of an event: it concerns a directory; events were lost; the watch was removed; the directory was
# renamed.
DIRECTORY = 0x40000000
OVERFLOW = 0x4000
IGNORED = 0x8000
MOVED_SELF = _MOVE_SELF
_WANTED = (
    _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES
)

_HEAD = struct.Struct("iIII")
# Holds thousands of events; the rest is read by the next call.
_BUFFER_BYTES = 256 * 1024


class Event(NamedTuple):
    """A change of `name` in the directory of a watch; `watch` is -1 for an overflow."""

    watch: int
    mask: int
    name: str


class WatchError(Exception):
    """No watch, or no further watch, is possible; the text says why."""


class Inotify:
    """One queue of events. Raises WatchError if the kernel or its limits do not allow it."""

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
        """Watches a directory; returns its number (the same if already watched), None if it is gone.

        Raises WatchError, mostly at the user's limit of watches.
        """
        path = os.fsencode(directory)
        number: int = self._library.inotify_add_watch(self._descriptor, path, _WANTED)
        if number >= 0:
            return number
        code = ctypes.get_errno()
        if code in (errno.ENOENT, errno.ENOTDIR):
            return None
        why = (
            "the limit fs.inotify.max_user_watches is reached"
            if code == errno.ENOSPC
            else os.strerror(code)
        )
        raise WatchError(f"cannot watch {directory}: {why}")

    def remove(self, watch: int) -> None:
        """Removes a watch; ignores one that has ended already."""
        self._library.inotify_rm_watch(self._descriptor, watch)

    def wait(self, seconds: float, *also: int) -> bool:
        """Waits for events, or until one of other descriptors is readable; False after `seconds`."""
        return bool(select.select([self._descriptor, *also], [], [], max(seconds, 0.0))[0])

    def read(self) -> list[Event]:
        """The pending events; does not block."""
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
