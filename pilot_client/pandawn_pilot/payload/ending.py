"""Classifies why a payload did not start, or failed."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from pandawn_pilot.errors import (
    ARGUMENTS_TOO_LONG,
    NO_ACCOUNT,
    NO_LOCAL_SPACE,
    PAYLOAD_FAILED,
    PAYLOAD_KILLED,
    PAYLOAD_NOT_EXECUTABLE,
    PAYLOAD_NOT_FOUND,
    PAYLOAD_NOT_STARTED,
    PROGRAM_NOT_EXECUTABLE,
    PROGRAM_NOT_FOUND,
    SETUP_FAILED,
    JobFailedError,
)
from pandawn_pilot.node.disk_use import why_full
from pandawn_pilot.payload.program import Program
from pandawn_pilot.payload.queue_rules import SETUP_OVER, SETUP_PROGRAM_MISSING

_STDERR_TAIL_BYTES = 1000
# A shell's status for a missing program, and for one that cannot be executed.
NOT_FOUND_STATUS, NOT_EXECUTABLE_STATUS = 127, 126
# The kernel reads this much of a script's first line.
_FIRST_LINE_BYTES = 256
_ELF = b"\x7fELF"
# The program, or a part of its path, does not exist.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
# The program exists and cannot be run as it is. All other errors are the node's.
_UNFIT = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.EINVAL, errno.EISDIR, errno.ELIBBAD}
)


def why_not_started(program: Program, number: int, step: str) -> tuple[int, JobFailedError]:
    """The status that a shell would return, and the failure; `step` is one of StartError's."""
    name = program.arguments[0]
    why = os.strerror(number)
    if step == "arguments":
        return NOT_EXECUTABLE_STATUS, JobFailedError(
            PAYLOAD_NOT_EXECUTABLE, f"{name} cannot be executed: a zero byte in its arguments"
        )
    if step == "account":
        return NOT_EXECUTABLE_STATUS, JobFailedError(
            NO_ACCOUNT, f"cannot change to the payload's account: {why}"
        )
    if step != "exec":
        return NOT_EXECUTABLE_STATUS, JobFailedError(
            PAYLOAD_NOT_STARTED, f"the node could not start the payload ({step}): {why}"
        )
    if number == errno.E2BIG:
        return NOT_EXECUTABLE_STATUS, too_long(program.arguments, program.environment)
    if number in _ABSENT:
        return NOT_FOUND_STATUS, _absent(program, why)
    if program.account is not None:
        why += f" (for account {program.account.name})"
    if number not in _UNFIT:
        return NOT_EXECUTABLE_STATUS, JobFailedError(
            PAYLOAD_NOT_STARTED, f"the node could not start {name}: {why}"
        )
    return NOT_EXECUTABLE_STATUS, _unfit(program, number, why)


def too_long(arguments: list[str], environment: dict[str, str]) -> JobFailedError:
    """The failure of a command that exceeds the kernel's limit."""
    size = sum(len(os.fsencode(word)) + 1 for word in arguments)
    rest = sum(len(os.fsencode(f"{name}={value}")) + 1 for name, value in environment.items())
    longest = max((len(os.fsencode(word)) for word in arguments), default=0)
    return JobFailedError(
        ARGUMENTS_TOO_LONG,
        f"the command has {len(arguments)} arguments of {size} bytes, the longest of {longest}, and"
        f" {rest} bytes of environment: more than the kernel allows; leave out %IN and read the"
        " names of the input files from the file in PANDAWN_INPUTS_FILE",
    )


def why_failed(program: Program, number: int, code: int, setup: str | None) -> JobFailedError:
    """The failure of a payload that ended by a signal (`number`, else 0) or with a status.

    `setup` is what the queue's set-up reported; None: no set-up.
    """
    detail = _stderr_detail(program.stderr)
    full = why_full(program.measured)
    if full is not None:
        # The payload's status and stderr do not show it: the disk had no room for them.
        return JobFailedError(
            NO_LOCAL_SPACE, f"the payload ended with status {code} on a full disk ({full})"
        )
    if setup == SETUP_PROGRAM_MISSING:
        return JobFailedError(
            PROGRAM_NOT_FOUND, f"the command does not exist after the queue's set-up{detail}"
        )
    if setup is not None and setup != SETUP_OVER:
        return JobFailedError(
            SETUP_FAILED, f"the queue's set-up command ended with status {code}{detail}"
        )
    if number:
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return JobFailedError(PAYLOAD_KILLED, f"the payload was killed by signal {name}{detail}")
    return JobFailedError(PAYLOAD_FAILED, f"the payload ended with status {code}{detail}")


def _absent(program: Program, why: str) -> JobFailedError:
    name = program.arguments[0]
    wanted = _interpreter(name)
    if wanted is not None:
        # The script exists, so its interpreter is missing.
        ours = _is_in(wanted, program)
        return JobFailedError(
            PAYLOAD_NOT_FOUND if ours else PROGRAM_NOT_FOUND,
            f"{name}: its interpreter {wanted} does not exist",
        )
    if not Path(name).exists():
        ours = _is_in(name, program) and not Path(name).is_symlink()
        return JobFailedError(
            PAYLOAD_NOT_FOUND if ours else PROGRAM_NOT_FOUND, f"{name}: no such program ({why})"
        )
    return JobFailedError(PROGRAM_NOT_FOUND, f"{name}: its loader or interpreter does not exist")


def _unfit(program: Program, number: int, why: str) -> JobFailedError:
    name = program.arguments[0]
    ours = _is_in(os.path.realpath(name), program)
    if ours and os.statvfs(program.work_dir).f_flag & os.ST_NOEXEC:
        return JobFailedError(
            PAYLOAD_NOT_STARTED,
            f"{name} cannot be executed: the disk of the node's work directory is mounted noexec",
        )
    if number in (errno.ENOEXEC, errno.EINVAL) and _begins(name).startswith(_ELF):
        # Built for another architecture: it may run on another node.
        ours = False
    fault = PAYLOAD_NOT_EXECUTABLE if ours else PROGRAM_NOT_EXECUTABLE
    return JobFailedError(fault, f"{name} cannot be executed: {why}")


def _is_in(path: str, program: Program) -> bool:
    """Whether a path is in the user's work directory, not elsewhere on the node."""
    return Path(program.work_dir, path).is_relative_to(program.work_dir)


def _interpreter(name: str) -> str | None:
    """The interpreter in the first line of a script; None if it is not a script."""
    line = _begins(name)
    if not line.startswith(b"#!"):
        return None
    words = line[2:].split(b"\n")[0].split()
    return os.fsdecode(words[0]) if words else None


def _begins(name: str) -> bytes:
    try:
        with Path(name).open("rb") as stream:
            return stream.read(_FIRST_LINE_BYTES)
    except OSError:
        return b""


def _stderr_detail(stderr: Path) -> str:
    """The last line of stderr, to append to a sentence."""
    try:
        with os.fdopen(os.open(stderr, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _STDERR_TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; the last line of its stderr: {words}" if words else ""
