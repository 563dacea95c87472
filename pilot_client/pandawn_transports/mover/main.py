"""Looks at files, fetches and stores them, one order at a time, as the pilot says by a pipe.

Orders and answers are lines of JSON; paths are in them with a character for each byte. The answers
to an order are any number of `{"size": bytes}` when that is known, `{"at": bytes}` as it goes on,
`{"syncing": true}` before the kernel writes out what it has, and one of

    {"facts": {...}}                        what a file is; after a fetch, what was copied
    {"stored": {...}}                       a file was stored
    {"failed": SIDE, "errno": N, "text": T} SIDE: `source`, `target`, or another word
    {"dropped": true}                       the order was called off; what it had begun is removed

The other words: the storage's `root` is not there, the source was `changed` or is `irregular`, the part
was `swept`.

A store says `{"ready": true}` when all bytes are there, and gives the file its name only at the word
of the pilot, `{"publish": [seconds, seconds]}`; a `{"drop": true}` calls an order off at any time.
The end of the input means that the pilot is dead: then nothing is published.
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

# The word to publish is good for so long: this process may have been stopped, with its machine, too.
WORD_SECONDS = 2.0
# Between two signs of life.
_SIGN_SECONDS = 1.0
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_Message = dict[str, Any]


class DroppedError(Exception):
    """The order was called off."""


class FailedError(Exception):
    """An order that failed: on which side, and the error of the kernel."""

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

    def hear(self) -> _Message:
        """Waits for the next line. Ends the process when the pilot is gone."""
        while b"\n" not in self._unread:
            piece = os.read(self._input, 65536)
            if not piece:
                raise SystemExit(0)
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        message: _Message = json.loads(line)
        return message

    def tell(self, message: _Message) -> None:
        """Sends a line."""
        os.write(self._output, json.dumps(message).encode() + b"\n")

    def note(self, position: int) -> None:
        """Gives a sign of life at times. Raises DroppedError, also when the pilot is gone."""
        now = time.monotonic()
        if now < self._sign_at:
            return
        self._sign_at = now + _SIGN_SECONDS
        if self._unread or select.select([self._input], [], [], 0)[0]:
            raise DroppedError
        try:
            self.tell({"at": position})
        except OSError as error:
            raise DroppedError from error

    def allows(self) -> None:
        """Asks whether a complete file may be published. Raises DroppedError if not."""
        while True:
            self.tell({"ready": True})
            try:
                word = self.hear()
            except SystemExit as gone:
                raise DroppedError from gone
            if "publish" not in word:
                raise DroppedError
            # One clock goes on in a sleeping machine, the other is put right after a frozen one.
            gone_by = [now - then for now, then in zip(clocks(), word["publish"])]
            if all(-WORD_SECONDS < seconds < WORD_SECONDS for seconds in gone_by):
                return


def clocks() -> tuple[float, float]:
    """The time by two clocks of which at least one shows a pause of this process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


def main() -> NoReturn:
    """Works until the pilot closes the pipe."""
    os.umask(0)
    os.chdir("/")
    pilot = Pilot()
    while True:
        order = pilot.hear()
        try:
            answer = _ORDERS[order["do"]](order, pilot)
        except FailedError as failed:
            answer = {"failed": failed.side, "errno": failed.number, "text": str(failed)}
        except DroppedError:
            answer = {"dropped": True}
        pilot.tell(answer)


def look(order: _Message, pilot: Pilot) -> _Message:
    """Opens a file in the reader's name, and says what it is."""
    del pilot
    descriptor = _open_source(order)
    try:
        return {"facts": _facts(os.fstat(descriptor))}
    finally:
        os.close(descriptor)


def fetch(order: _Message, pilot: Pilot) -> _Message:
    """Copies a file that the reader may read to where the pilot wants it."""
    # What is looked at is what is copied, wherever the name leads by then.
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
    """Copies a file of the pilot's into the storage, and gives it its name when the pilot says so."""
    target = _bytes(order["path"])
    directory, _, name = target.rpartition(b"/")
    if b".." in target.split(b"/") or name in (b"", b"."):
        raise FailedError("target", errno.EINVAL, "a path with such parts names no output")
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
            pilot.tell({"syncing": True})
            # To the disk before the name appears: a reported output survives a power cut.
            os.fsync(writer)
            if os.fstat(writer).st_size != copied:
                raise OSError(errno.EIO, "the storage does not have all bytes that it took")
        finally:
            os.close(writer)
        pilot.allows()
        try:
            place.publish(part, name)
        except FileNotFoundError as error:
            raise FailedError("swept", error.errno, SWEPT) from error
    except BaseException:
        place.drop(part)
        raise
    return copied


def _copy(reader: int, writer: int, before: os.stat_result, pilot: Pilot, sums: Sums | None) -> int:
    pilot.tell({"size": before.st_size})
    try:
        return copy_bytes(reader, writer, pilot.note, sums)
    except SourceError as error:
        raise FailedError("source", error.errno, error.strerror or str(error)) from error


def _open_source(order: _Message) -> int:
    path = _bytes(order["path"])
    try:
        with _as_reader(order["uid"], order["gid"]):
            # O_NONBLOCK: a named pipe is refused below, and nobody waits for its writer.
            descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            # A file that is not there, or a storage that is not there?
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
    """Lets the kernel judge by another account's rights, and its only: no groups, no capabilities."""
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
            "root", error.errno, f"{error.filename} is not there: {error.strerror}"
        ) from error
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise FailedError(side, error.errno, text or str(error)) from error


def _settled(reader: int) -> os.stat_result:
    """What the file is, when its next change would show in its times."""
    status = os.fstat(reader)
    pause = seconds_to_settle(max(status.st_mtime_ns, status.st_ctime_ns))
    if pause > 0:
        time.sleep(pause)
        status = os.fstat(reader)
    return status


def _unchanged(reader: int, before: os.stat_result, copied: int, name: str) -> os.stat_result:
    """What the file is now. Raises FailedError if it was changed while it was copied."""
    after = os.fstat(reader)
    if _facts(before) != _facts(after) or copied != after.st_size:
        path = os.fsdecode(_bytes(name))
        raise FailedError("changed", 0, f"somebody has changed {path} while it was copied")
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
