"""Checks, fetches and stores files by orders from the pilot, one at a time, through a pipe.

Orders and answers are lines of JSON; paths in them have one character per byte. The answers to an order are
any number of `{"size": bytes}` when it is known, `{"at": bytes}` as progress, `{"syncing": true}` before a
sync to disk, and one of

    {"facts": {...}}                        metadata of a file; after a fetch, of the copied file
    {"stored": {...}}                       a file was stored
    {"failed": SIDE, "errno": N, "text": T} SIDE: `source`, `target`, or another word
    {"dropped": true}                       the order was cancelled, and its part removed

The other words: the storage's `root` is missing, the source was `changed` or is `irregular`, the part was
`swept`.

A store sends `{"ready": true}` when all bytes are written, and renames the file only after the pilot's
`{"publish": [seconds, seconds]}`; `{"drop": true}` cancels an order at any time. The end of the input means
that the pilot is dead: then nothing is published.
"""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pandawn_transports.mover.copying import SourceError, Sums, copy_bytes, seconds_to_settle
from pandawn_transports.mover.places import SWEPT, Place, RootGoneError, mark_of, unmounted_above

# How long a `publish` is valid: this process, or its machine, may have been suspended since.
WORD_SECONDS = 2.0
# Interval of progress messages.
_SIGN_SECONDS = 1.0
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_Message = dict[str, Any]


class DroppedError(Exception):
    """The order was cancelled."""


class FailedError(Exception):
    """A failed order: the side, and the errno."""

    def __init__(self, side: str, number: int | None, text: str) -> None:
        super().__init__(text)
        self.side = side
        self.number = number or 0


class Pilot:
    """The other end of the pipe."""

    def __init__(self, input_: int = 0, output: int = 1) -> None:
        self._input = input_
        self._output = output
        self._unread = b""
        self._sign_at = 0.0

    def receive(self) -> _Message:
        """Waits for the next line. Ends the process when the pilot is gone."""
        while b"\n" not in self._unread:
            piece = os.read(self._input, 65536)
            if not piece:
                raise SystemExit(0)
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        message: _Message = json.loads(line)
        return message

    def send(self, message: _Message) -> None:
        """Sends a line."""
        os.write(self._output, json.dumps(message).encode() + b"\n")

    def report_progress(self, position: int) -> None:
        """Sends the position at intervals. Raises DroppedError, also when the pilot is gone."""
        now = time.monotonic()
        if now < self._sign_at:
            return
        self._sign_at = now + _SIGN_SECONDS
        if self._unread or select.select([self._input], [], [], 0)[0]:
            raise DroppedError
        try:
            self.send({"at": position})
        except OSError as error:
            raise DroppedError from error

    def confirm(self) -> None:
        """Asks whether a complete file may be published. Raises DroppedError if not."""
        while True:
            self.send({"ready": True})
            try:
                word = self.receive()
            except SystemExit as gone:
                raise DroppedError from gone
            if "publish" not in word:
                raise DroppedError
            # The boot clock runs during a suspend; the wall clock is corrected after a paused virtual machine.
            gone_by = [now - then for now, then in zip(clocks(), word["publish"])]
            if all(-WORD_SECONDS < seconds < WORD_SECONDS for seconds in gone_by):
                return


def clocks() -> tuple[float, float]:
    """The time of two clocks, at least one of which shows a pause of this process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


def main() -> NoReturn:
    """Processes orders until the pilot closes the pipe."""
    os.umask(0)
    os.chdir("/")
    pilot = Pilot()
    while True:
        order = pilot.receive()
        try:
            answer = _ORDERS[order["do"]](order, pilot)
        except FailedError as failed:
            answer = {"failed": failed.side, "errno": failed.number, "text": str(failed)}
        except DroppedError:
            answer = {"dropped": True}
        pilot.send(answer)


def look(order: _Message, pilot: Pilot) -> _Message:
    """Opens a file as the reader, and returns its metadata."""
    del pilot
    descriptor = _open_source(order)
    try:
        return {"facts": _facts(os.fstat(descriptor))}
    finally:
        os.close(descriptor)


def fetch(order: _Message, pilot: Pilot) -> _Message:
    """Copies a file that the reader can read to a path of the pilot."""
    # By descriptor, so that the file that was checked is copied, even if its name changes.
    reader = _open_source(order)
    try:
        with _side("target"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(_bytes(order["to"]), flags, 0o644)
            try:
                before = _settled(reader)
                copied = _copy(reader, writer, before, pilot, None)
            finally:
                os.close(writer)
        return {"facts": _facts(_unchanged(reader, before, copied, order["path"]))}
    finally:
        os.close(reader)


def store(order: _Message, pilot: Pilot) -> _Message:
    """Copies a file of the pilot to the storage, and renames it when the pilot confirms."""
    target = _bytes(order["path"])
    directory, _, name = target.rpartition(b"/")
    if b".." in target.split(b"/") or name in (b"", b"."):
        raise FailedError(
            "target", errno.EINVAL, "an output path must not contain '..' or end with '/'"
        )
    sums = Sums(with_sha256=order["sha256"])
    with _side("source"):
        reader = os.open(_bytes(order["from"]), _READ | os.O_NOFOLLOW)
    try:
        with _side("target"):
            place = Place(_bytes(order["top"]) or b"/", directory or b"/", order["device"])
            try:
                copied = _store_in(place, name, reader, sums, order, pilot)
            finally:
                place.close()
    finally:
        os.close(reader)
    return {
        "stored": {
            "size": copied,
            "adler32": sums.adler32,
            "sha256": sums.sha256,
            "open_to_all": place.open_to_all.decode("latin-1"),
            "device": place.device,
        }
    }


def _store_in(
    place: Place, name: bytes, reader: int, sums: Sums, order: _Message, pilot: Pilot
) -> int:
    mark = mark_of(name)
    part, writer = place.make_part(mark, order["owner"])
    try:
        try:
            place.sweep(mark, part)
            before = os.fstat(reader)
            copied = _copy(reader, writer, before, pilot, sums)
            _unchanged(reader, before, copied, order["from"])
            os.fchmod(writer, place.file_mode)
            pilot.send({"syncing": True})
            # Synced before the rename, so that a reported output survives a power cut.
            os.fsync(writer)
            if os.fstat(writer).st_size != copied:
                raise OSError(errno.EIO, "the storage has lost bytes that it accepted")
        finally:
            os.close(writer)
        pilot.confirm()
        try:
            place.publish(part, name)
        except FileNotFoundError as error:
            raise FailedError("swept", error.errno, SWEPT) from error
    except BaseException:
        place.drop(part)
        raise
    return copied


def _copy(reader: int, writer: int, before: os.stat_result, pilot: Pilot, sums: Sums | None) -> int:
    pilot.send({"size": before.st_size})
    try:
        return copy_bytes(reader, writer, pilot.report_progress, sums)
    except SourceError as error:
        raise FailedError("source", error.errno, error.strerror or str(error)) from error


def _open_source(order: _Message) -> int:
    path = _bytes(order["path"])
    try:
        with _as_reader(order["uid"], order["gid"]):
            # O_NONBLOCK: do not wait for the writer of a named pipe, which is refused below.
            descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            # Is the file missing, or the storage not mounted?
            missing = unmounted_above(path)
            if missing:
                text = f"{os.fsdecode(missing)} is not mounted"
                raise FailedError("root", errno.ENOENT, text) from error
        raise FailedError("source", error.errno, error.strerror or str(error)) from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FailedError("irregular", 0, "not a regular file")


@contextmanager
def _as_reader(uid: int, gid: int) -> Iterator[None]:
    """Runs the block with only another account's rights: no groups, no capabilities."""
    if uid < 0:
        yield
        return
    groups = os.getgroups()
    own = os.geteuid(), os.getegid()
    try:
        os.setgroups([])
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(own[0])
        os.setegid(own[1])
        os.setgroups(groups)


@contextmanager
def _side(side: str) -> Iterator[None]:
    try:
        yield
    except RootGoneError as error:
        raise FailedError(
            "root", error.errno, f"{error.filename} is missing: {error.strerror}"
        ) from error
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise FailedError(side, error.errno, text or str(error)) from error


def _settled(reader: int) -> os.stat_result:
    """The file's status, once any further change would change its times."""
    status = os.fstat(reader)
    pause = seconds_to_settle(max(status.st_mtime_ns, status.st_ctime_ns))
    if pause > 0:
        time.sleep(pause)
        status = os.fstat(reader)
    return status


def _unchanged(reader: int, before: os.stat_result, copied: int, name: str) -> os.stat_result:
    """The file's current status. Raises FailedError if it changed during the copy."""
    after = os.fstat(reader)
    if _facts(before) != _facts(after) or copied != after.st_size:
        path = os.fsdecode(_bytes(name))
        raise FailedError("changed", 0, f"{path} was changed while it was copied")
    return after


def _facts(status: os.stat_result) -> _Message:
    return {
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
        "device": status.st_dev,
    }


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


_ORDERS = {"look": look, "fetch": fetch, "store": store}
