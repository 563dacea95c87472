"""The processes between the pilot and a payload: if any of them dies, the payload is killed.

Started with `python -I -S`, so it imports the standard library only, and modules that do the same.
There are two, the wrapper and its child, the keeper. Whichever of pilot, wrapper and keeper is killed,
another is left to kill the payload. The keeper

- starts the payload in its own session, with its limits, streams and environment,
- adopts orphans of the payload, so that none escapes. If PID name spaces are available, it is the
  first process of one, and the kernel kills the rest with it; else it is a subreaper
  (PR_SET_CHILD_SUBREAPER), and the wrapper is one after it,
- kills all of them when the payload ends, on the pilot's command, and when pilot or wrapper dies,
- counts their CPU time.

The pilot sends to the keeper's standard input a line of JSON (see `Order`), then single bytes: `T`
sends SIGTERM to all processes of the payload, `K` kills them. The end of the input means that the pilot
is dead. The answers are lines of JSON on the standard output:
`{"keeper": pid}`, `{"note": text}`, `{"started": 1, "file_limit": bytes}` or
`{"failed": errno, "step": where}`, later `{"ended": status, ...}`.

The pilot has gRPC's threads and must not fork; these processes have one thread, so they can.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import time
from pathlib import Path
from typing import NoReturn

from pandawn_pilot.node.namespaces import furnish, separate
from pandawn_pilot.payload.start import Order, StartError, change_account, clear_keys, prctl, start

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
# A process that survives SIGKILL waits for a hanging disk: it is left to the kernel.
_KILL_PATIENCE_SECONDS = 10.0
# Signals of a process's own faults. All others may come from a batch system and are ignored: the pilot
# decides how to react.
_OWN_SIGNALS = frozenset(
    {
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        *(signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS),
    }
)


def main() -> int:
    """Runs one payload."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _ignore_signals()
    line, rest = _read_line(0)
    order = Order(**json.loads(line))
    alive, our_end = os.pipe()
    try:
        if order.separate:
            separate()
        keeper = os.fork()
    except OSError as error:
        _answer(failed=error.errno or 0, step="fork")
        return 0
    if keeper == 0:
        os.close(our_end)
        _keep(order, rest, alive)
    os.close(alive)
    _answer(keeper=keeper)
    # A payload of the same account must not control this process or fake its answers.
    prctl(_PR_SET_DUMPABLE, 0)
    _stand_by(keeper)
    _Kept(whole=False).kill()
    return 0


def try_namespaces() -> None:
    """Creates name spaces as for a payload, in this process and a child. Raises OSError."""
    separate()
    child = os.fork()
    if child == 0:
        try:
            furnish("/")
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    number = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    if number != 0:
        raise OSError(number, os.strerror(number))


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
    # The program's name, in parentheses, may contain parentheses itself.
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _ignore_signals() -> None:
    for number in signal.valid_signals() - _OWN_SIGNALS - {signal.SIGCHLD}:
        # SIGKILL and SIGSTOP cannot be set.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)


def _wake_by_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _stand_by(keeper: int) -> None:
    """Waits for the keeper's end. If the pilot dies, kills the keeper after a while."""
    wakeup = _wake_by_children()
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    # The keeper reads the input; poll reports the hang-up in any case.
    poll.register(0, 0)
    deadline: float | None = None
    while True:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if ended == keeper:
                    return
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            os.kill(keeper, signal.SIGKILL)
            return
        ready = poll.poll(None if left is None else left * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
        if any(descriptor == 0 for descriptor, _ in ready):
            poll.unregister(0)
            deadline = time.monotonic() + 2 * _KILL_PATIENCE_SECONDS


def _keep(order: Order, commands: bytes, alive: int) -> NoReturn:
    """Runs the keeper."""
    kept = _Kept(whole=order.separate)
    wakeup = _wake_by_children()
    try:
        if order.separate:
            # The kernel kills all in the name space with it.
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            furnish(order.directory)
        else:
            prctl(_PR_SET_CHILD_SUBREAPER, 1)
        started = start(order)
    except StartError as error:
        _answer(failed=error.number, step=error.step)
        os._exit(0)
    except OSError as error:
        _answer(failed=error.errno or 0, step="name spaces")
        os._exit(0)
    # As in the wrapper; only now, as its child had to inspect its parent.
    prctl(_PR_SET_DUMPABLE, 0)
    for note in started.notes:
        _answer(note=note)
    _answer(started=1, file_limit=started.file_limit)
    status = kept.watch(started.process, wakeup, alive, commands)
    kept.kill()
    if order.made:
        _clear_keys_of(order)
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    with contextlib.suppress(BlockingIOError):
        _answer(setup=os.read(started.setup, 16).decode("ascii", "replace").strip())
    _answer(
        ended=status,
        cpu_seconds=use.ru_utime + use.ru_stime,
        max_rss_bytes=use.ru_maxrss * 1024,
    )
    os._exit(0)


def _clear_keys_of(order: Order) -> None:
    """Clears the account's keys in a process of that account: no other is allowed to."""
    with contextlib.suppress(OSError):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(OSError):
                change_account(order.uid, order.gid)
                clear_keys()
            os._exit(0)
        os.waitpid(child, 0)


class _Kept:
    """The processes below this one; `whole`: all of its name space."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def watch(self, payload: int, wakeup: int, alive: int, commands: bytes) -> int:
        """Waits for the payload's end; returns its wait status."""
        while True:
            for command in commands:
                if command == ord("T"):
                    self._signal(signal.SIGTERM)
                elif command == ord("K"):
                    self._signal(signal.SIGKILL)
            status = _reap(payload)
            if status is not None:
                return status
            ready, _, _ = select.select([0, wakeup, alive], [], [])
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 4096)
            commands = os.read(0, 4096) if 0 in ready else b""
            if alive in ready or (0 in ready and not commands):
                # Pilot or wrapper is dead: no one reads the status.
                self.kill()
                os._exit(0)

    def kill(self) -> None:
        """Kills in a loop until none is left, as processes may fork meanwhile."""
        deadline = time.monotonic() + _KILL_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self._signal(signal.SIGKILL)
            _reap(0)
            if not descendants(os.getpid()):
                return
            time.sleep(0.01)

    def _signal(self, number: int) -> None:
        if self._whole:
            # Signals all but the first process atomically: none can escape by forking.
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, number)
            return
        for process in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)


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


def _read_line(descriptor: int) -> tuple[bytes, bytes]:
    content = b""
    while b"\n" not in content:
        piece = os.read(descriptor, 65536)
        if not piece:
            os._exit(0)
        content += piece
    line, _, rest = content.partition(b"\n")
    return line, rest


def _answer(**document: float | str) -> None:
    # The pilot may be dead.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode() + b"\n")
