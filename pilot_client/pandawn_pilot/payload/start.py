"""Turns a child of the keeper into the payload. Standard library only, as in the wrapper."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# Files of a payload with its own account are private.
_PRIVATE_UMASK = 0o077
# Under the pilot's account, the umask of an ordinary login; not that of the batch job.
_USUAL_UMASK = 0o022
# A program may still be open for writing for a moment, in a child of the process that copied it.
_BUSY_SECONDS = 5.0
# The number of the system call `keyctl`, its operations, and names of keyrings; see keyctl(2).
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING, _CLEAR, _GET_PERSISTENT = 1, 7, 22
_PROCESS_KEYRING, _USER_KEYRING, _USER_SESSION_KEYRING = -2, -4, -5
_OWN_UID = -1
# Retry a lack of processes or memory for this long.
_SHORT_SECONDS = 3.0
_PAUSE_SECONDS = 0.1
# The descriptor on which the queue's set-up reports its progress, see `behind_setup`.
SETUP_DESCRIPTOR = 9


@dataclass(frozen=True)
class Order:
    """What to run: `arguments[0]` is the path of the program. `max_file_bytes` 0 means no limit.

    `uid` and `gid` are the payload's; -1: those of this process. `made`: no one else has the account.
    `separate`: with its own name spaces. `setup`: the program reports the queue's set-up on
    SETUP_DESCRIPTOR.
    """

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    stdout: str
    stderr: str
    max_file_bytes: int
    uid: int = -1
    gid: int = -1
    made: bool = False
    separate: bool = False
    setup: bool = False


class StartError(Exception):
    """The payload did not start: `number` is the errno, `step` where it failed."""

    def __init__(self, number: int, step: str) -> None:
        self.number = number
        self.step = step
        super().__init__(f"{step}: {os.strerror(number)}")


@dataclass(frozen=True)
class Started:
    """A running payload. `notes` are problems to log.

    `setup` is the descriptor to read the queue's set-up report from.
    """

    process: int
    notes: list[str]
    file_limit: int
    setup: int


def start(order: Order) -> Started:
    """Starts the payload. Raises StartError."""
    reader, writer = os.pipe()
    setup, setup_writer = os.pipe()
    os.set_blocking(setup, False)
    parent = os.getpid()
    child = _fork()
    if child == 0:
        _run_child(order, parent, writer, setup_writer)
    os.close(writer)
    os.close(setup_writer)
    # The successful exec closes it, like all descriptors of Python.
    messages = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    notes: list[str] = []
    limit = 0
    for line in messages.splitlines():
        message = json.loads(line)
        if "failed" in message:
            os.waitpid(child, 0)
            raise StartError(message["failed"], message["step"])
        if "note" in message:
            notes.append(message["note"])
        limit = message.get("file_limit", limit)
    return Started(child, notes, limit, setup)


def prctl(option: int, value: int) -> None:
    """The system call. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def _fork() -> int:
    deadline = time.monotonic() + _SHORT_SECONDS
    while True:
        try:
            return os.fork()
        except OSError as error:
            if time.monotonic() > deadline:
                raise StartError(error.errno or 0, "fork") from error
            time.sleep(_PAUSE_SECONDS)


def _run_child(order: Order, parent: int, writer: int, setup: int) -> NoReturn:
    try:
        become = _Becoming(order, parent, writer, setup)
    except OSError:
        os._exit(127)
    try:
        become.payload()
    except OSError as error:
        become.say(failed=error.errno or 0, step=become.step)
    except ValueError:
        # An argument or a variable contains a zero byte.
        become.say(failed=errno.EINVAL, step="arguments")
    finally:
        os._exit(127)


class _Becoming:
    """Turns this process into a payload; `step` is the current step."""

    def __init__(self, order: Order, parent: int, writer: int, setup: int) -> None:
        self._order = order
        self._parent = parent
        # Above the descriptors that the payload gets.
        self._writer = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, SETUP_DESCRIPTOR + 1)
        self._setup = fcntl.fcntl(setup, fcntl.F_DUPFD_CLOEXEC, SETUP_DESCRIPTOR + 1)
        os.close(writer)
        os.close(setup)
        self.step = "session"

    def say(self, **document: int | str) -> None:
        os.write(self._writer, json.dumps(document).encode() + b"\n")

    def payload(self) -> NoReturn:
        order = self._order
        os.setsid()
        self._limit(resource.RLIMIT_CORE, "core files", 0)
        if order.max_file_bytes > 0:
            # Keeps a single file from filling the disk between two measurements.
            self._limit(resource.RLIMIT_FSIZE, "file size", order.max_file_bytes)
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if soft != resource.RLIM_INFINITY:
            self.say(file_limit=soft)
        # The OOM killer should choose the payload, not the pilot.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            # SIGKILL and SIGSTOP cannot be set.
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.step = "directory"
        os.chdir(order.directory)
        self.step = "streams"
        self._open_streams()
        self.step = "account"
        if order.uid >= 0:
            change_account(order.uid, order.gid)
            if order.made:
                clear_keys()
        os.umask(_PRIVATE_UMASK if order.uid >= 0 else _USUAL_UMASK)
        # The payload dies with its parent. Set after the change of account, which resets it.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:
            os._exit(127)
        self.step = "exec"
        self._execute()

    def _limit(self, which: int, what: str, wanted: int) -> None:
        """Sets a limit; keeps the batch system's if that is lower."""
        _, hard = resource.getrlimit(which)
        limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        try:
            resource.setrlimit(which, (limit, limit))
        except (OSError, ValueError) as error:
            self.say(note=f"cannot set the limit of {what} to {limit}: {error}")
        else:
            if limit != wanted:
                self.say(note=f"the limit of {what} is {limit}, set by the batch system")

    def _open_streams(self) -> None:
        order = self._order
        if order.setup:
            os.dup2(self._setup, SETUP_DESCRIPTOR)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        for stream, path in ((1, order.stdout), (2, order.stderr)):
            opened = os.open(path, flags, 0o600)
            if order.uid >= 0:
                # The payload can then open /dev/stdout by name.
                os.fchown(opened, order.uid, order.gid)
            os.dup2(opened, stream)

    def _execute(self) -> NoReturn:
        order = self._order
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                os.execve(order.arguments[0], order.arguments, order.environment)  # noqa: S606 (meant so)
            except OSError as error:
                passing = error.errno in (errno.ETXTBSY, errno.EAGAIN, errno.ENOMEM)
                if not passing or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)


def change_account(uid: int, gid: int) -> None:
    """Changes the account for good: real, effective and saved IDs, groups, capabilities."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # Set-user-ID programs and file capabilities must not undo it.
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # A new session keyring, without the keys of the pilot's account; it ends with its last process.
    _keyctl(_JOIN_SESSION_KEYRING, 0)


def clear_keys() -> None:
    """Clears the keyrings of this process's account, which outlive its last process."""
    persistent = _keyctl(_GET_PERSISTENT, _OWN_UID, _PROCESS_KEYRING)
    for keyring in (persistent, _USER_KEYRING, _USER_SESSION_KEYRING):
        _keyctl(_CLEAR, keyring)
    _keyctl(_CLEAR, _PROCESS_KEYRING)


def _keyctl(operation: int, *arguments: int) -> int:
    """The system call; returns -1 where keyrings are not supported."""
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return -1
    words = [ctypes.c_long(word) for word in (operation, *arguments, 0, 0, 0, 0)][:5]
    result: int = ctypes.CDLL(None).syscall(ctypes.c_long(number), *words)
    return result
