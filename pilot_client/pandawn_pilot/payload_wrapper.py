"""The process between the pilot and a payload, which lets nothing of the payload outlive either.

Started by file name with `python -I -S`, so it must import the standard library only. It

- starts the payload in a session of its own, with its limits, streams and environment,
- adopts whatever the payload leaves behind (PR_SET_CHILD_SUBREAPER): nothing escapes it,
- kills all of that when the payload ends, when the pilot says so, and when the pilot dies,
- counts the processor time of all of it.

The pilot talks to its standard input, first a line of JSON (see `Order`), then single bytes: `T`
sends SIGTERM to all processes of the payload, `K` kills them. The end of the input means that the
pilot is dead. The answers are lines of JSON on its standard output: `{"started": pid}` or
`{"failed": errno}`, later `{"ended": status, ...}`.

The pilot runs gRPC's threads and must not fork; this process has one thread and may.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# What a payload under an account of its own makes is nobody else's business.
_PRIVATE_UMASK = 0o077
# A process that does not die from SIGKILL waits for a dead disk: it is left to the kernel.
_KILL_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Order:
    """What to run: `arguments[0]` is the path of the program. `max_file_bytes` 0 means no limit.

    `uid` and `gid` are those of the payload's account; -1: it runs under this process's account.
    """

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    stdout: str
    stderr: str
    max_file_bytes: int
    uid: int = -1
    gid: int = -1


def main() -> int:
    """Runs one payload."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # A batch system that ends the node's processes signals them all; the pilot decides what comes
    # of it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wakeup_reader, wakeup_writer = os.pipe()
    os.set_blocking(wakeup_writer, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
    line, rest = _read_line(0)
    try:
        payload = _start(Order(**json.loads(line)))
    except OSError as error:
        _answer({"failed": error.errno or 0})
        return 0
    _answer({"started": payload})
    status = _watch(payload, wakeup_reader, rest)
    _kill_all()
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    _answer(
        {
            "ended": status,
            "cpu_seconds": use.ru_utime + use.ru_stime,
            "max_rss_bytes": use.ru_maxrss * 1024,
        }
    )
    return 0


def descendants(root: int) -> list[int]:
    """Process numbers of all children of `root`, their children, and so on."""
    children: dict[int, list[int]] = {}
    for item in os.scandir("/proc"):
        if not item.name.isdecimal():
            continue
        parent = _parent_of(int(item.name))
        if parent is not None:
            children.setdefault(parent, []).append(int(item.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.extend(below)
        waiting.extend(below)
    return found


def _parent_of(process: int) -> int | None:
    try:
        text = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    # The name of the program, in parentheses, may hold anything, parentheses too.
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _watch(payload: int, wakeup: int, commands: bytes) -> int:
    """Waits for the payload's end; returns its wait status."""
    while True:
        for command in commands:
            if command == ord("T"):
                _signal_all(signal.SIGTERM)
            elif command == ord("K"):
                _signal_all(signal.SIGKILL)
        status = _reap(payload)
        if status is not None:
            return status
        ready, _, _ = select.select([0, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 4096)
        commands = os.read(0, 4096) if 0 in ready else b""
        if 0 in ready and not commands:
            # The pilot is dead. Nobody will ask how it ended.
            _kill_all()
            os._exit(0)


def _reap(payload: int) -> int | None:
    """Reaps processes that have ended; returns the payload's status if it is among them."""
    result = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return result
        if process == 0:
            return result
        if process == payload:
            result = status


def _signal_all(number: int) -> None:
    for process in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


def _kill_all() -> None:
    """Kills until none is left: a process may fork while we look."""
    deadline = time.monotonic() + _KILL_PATIENCE_SECONDS
    while descendants(os.getpid()) and time.monotonic() < deadline:
        _signal_all(signal.SIGKILL)
        time.sleep(0.01)
        _reap(0)


def _start(order: Order) -> int:
    """Starts the payload; returns its process number. Raises OSError when it cannot be started."""
    error_reader, error_writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _become(order, parent)
        except OSError as error:
            os.write(error_writer, str(error.errno).encode())
        except ValueError:
            # An argument or a variable with a zero byte, which no program can be given.
            os.write(error_writer, str(errno.EINVAL).encode())
        finally:
            os._exit(127)
    # From here on a payload of the same account may not put words into our mouth.
    _prctl(_PR_SET_DUMPABLE, 0)
    os.close(error_writer)
    # Closed by the successful exec, like all that Python opens.
    failure = os.read(error_reader, 16)
    os.close(error_reader)
    if failure:
        os.waitpid(child, 0)
        raise OSError(int(failure), os.strerror(int(failure)))
    return child


def _become(order: Order, parent: int) -> NoReturn:
    """Turns this process into the payload."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if order.max_file_bytes > 0:
        # Between two looks at the directory, this keeps a single file from filling the disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.max_file_bytes, order.max_file_bytes))
    # When memory runs out, the kernel should choose the payload and not the pilot.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        # SIGKILL and SIGSTOP cannot be set, and need not.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(order.directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in ((1, order.stdout), (2, order.stderr)):
        opened = os.open(path, flags | os.O_NOFOLLOW, 0o600)
        if order.uid >= 0:
            # /dev/stdout is opened by name, with the rights of the payload.
            os.fchown(opened, order.uid, order.gid)
        os.dup2(opened, stream)
    if order.uid >= 0:
        _change_account(order.uid, order.gid)
    # Should this wrapper be killed, its payload goes with it. A change of account would undo it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)
    os.execve(order.arguments[0], order.arguments, order.environment)  # noqa: S606 (meant so)


def _change_account(uid: int, gid: int) -> None:
    """Gives up this account for good: real, effective and saved numbers, groups, capabilities."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # Neither set-user-ID programs nor file capabilities lead back.
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    os.umask(_PRIVATE_UMASK)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def _read_line(descriptor: int) -> tuple[bytes, bytes]:
    content = b""
    while b"\n" not in content:
        piece = os.read(descriptor, 65536)
        if not piece:
            os._exit(0)
        content += piece
    line, _, rest = content.partition(b"\n")
    return line, rest


def _answer(document: dict[str, float]) -> None:
    # The pilot may be gone; then nobody waits for the answer.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
