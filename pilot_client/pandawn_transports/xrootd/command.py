"""Runs `xrdfs` and `xrdcp` for a bounded time, and classifies their errors.

XRootD also has a Python client. But every site with XRootD has the commands, they need no Python package, and
one that hangs can be killed without the pilot.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pandawn_transports.stop import Stop

# The client's own timeouts, unless the site sets them. By default it tries a port without a listener for
# eight minutes, and waits half an hour for an answer.
_ENVIRONMENT = {
    "XRD_CONNECTIONRETRY": "1",
    "XRD_CONNECTIONWINDOW": "10",
    "XRD_REQUESTTIMEOUT": "60",
    "XRD_STREAMTIMEOUT": "30",
    "XRD_TIMEOUTRESOLUTION": "2",
}
# Interval of checks of a running command: a cancelled job should not wait longer.
_POLL_SECONDS = 0.2
# Longest wait for a killed command to end.
_PATIENCE_SECONDS = 2.0

# Numbers of the protocol's errors (kXR_NotFound and so on), as the commands print them.
_ERROR_NUMBER = re.compile(r"\[(3\d\d\d)\]")
_LABEL = re.compile(r"^(?:Run: )?(?:\[(?:ERROR|FATAL|!)\] )?(?:Server responded with an error: )?")


class XrootdFault(Enum):
    """Why a command failed."""

    NO_PROGRAM = auto()
    UNREACHABLE = auto()
    MISSING = auto()
    FORBIDDEN = auto()
    FULL = auto()
    READ_ONLY = auto()
    UNSUPPORTED = auto()
    CHECKSUM = auto()
    OTHER = auto()


_FAULT_OF_NUMBER = {
    # Errors of the server's disk, memory or data servers; overload; its own timeouts.
    "3007": XrootdFault.UNREACHABLE,
    "3008": XrootdFault.UNREACHABLE,
    "3012": XrootdFault.UNREACHABLE,
    "3014": XrootdFault.UNREACHABLE,
    "3024": XrootdFault.UNREACHABLE,
    "3034": XrootdFault.UNREACHABLE,
    "3035": XrootdFault.UNREACHABLE,
    "3025": XrootdFault.READ_ONLY,
    "3009": XrootdFault.FULL,
    "3010": XrootdFault.FORBIDDEN,
    "3011": XrootdFault.MISSING,
    "3013": XrootdFault.UNSUPPORTED,
    "3015": XrootdFault.FORBIDDEN,
    "3016": XrootdFault.FORBIDDEN,
    "3019": XrootdFault.CHECKSUM,
    "3021": XrootdFault.FULL,
    "3030": XrootdFault.FORBIDDEN,
}
_FAULT_OF_WORDS = {
    "No space left on device": XrootdFault.FULL,
    "no space left on device": XrootdFault.FULL,
    "Disk quota exceeded": XrootdFault.FULL,
    "ead-only file system": XrootdFault.READ_ONLY,
    "tale file handle": XrootdFault.UNREACHABLE,
    "nput/output error": XrootdFault.UNREACHABLE,
    "imed out": XrootdFault.UNREACHABLE,
    "Auth failed": XrootdFault.FORBIDDEN,
    "CheckSum error": XrootdFault.CHECKSUM,
    "Connection error": XrootdFault.UNREACHABLE,
    "Invalid address": XrootdFault.UNREACHABLE,
    "Operation expired": XrootdFault.UNREACHABLE,
    "Socket": XrootdFault.UNREACHABLE,
}


class XrootdError(Exception):
    """A failed command, with its message as one sentence."""

    def __init__(self, fault: XrootdFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True)
class Answer:
    """The output of a command that succeeded."""

    output: bytes
    remarks: str


def run(arguments: Sequence[str], what: str, *, seconds: float, stop: Stop | None = None) -> Answer:
    """Runs a command, at most `seconds`; `what` starts the message of an error.

    Raises XrootdError, and StoppedError when `stop` is set; the command has ended by then.
    """
    program = shutil.which(arguments[0])
    if program is None:
        raise XrootdError(
            XrootdFault.NO_PROGRAM,
            f"{what}: {arguments[0]} is not installed; Debian's package is xrootd-client",
        )
    process = subprocess.Popen(
        [program, *(os.fsencode(argument) for argument in arguments[1:])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(os.environ),
        # Ctrl-C at the terminal must reach only us; we then end the command.
        start_new_session=True,
    )
    try:
        output, errors = _wait(process, what, seconds, stop)
    except BaseException:
        _end(process)
        raise
    remarks = errors.decode("utf-8", "replace")
    if process.returncode != 0:
        raise _failure(what, process.returncode, remarks)
    return Answer(output, remarks)


def _wait(
    process: subprocess.Popen[bytes], what: str, seconds: float, stop: Stop | None
) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return process.communicate(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop is not None:
                stop.check()
            if time.monotonic() > deadline:
                text = f"{what}: no result after {seconds:.0f} s"
                raise XrootdError(XrootdFault.UNREACHABLE, text) from None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    # One that waits for a hanging disk is left to the kernel.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_PATIENCE_SECONDS)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    # We parse its messages in English.
    return {**_ENVIRONMENT, **inherited, "LC_ALL": "C"}


def _failure(what: str, status: int, remarks: str) -> XrootdError:
    lines = [line.strip() for line in remarks.splitlines() if line.strip()]
    text = _LABEL.sub("", lines[-1]).strip() if lines else f"it ended with status {status}"
    number = _ERROR_NUMBER.search(remarks)
    if number is not None and number[1] in _FAULT_OF_NUMBER:
        fault = _FAULT_OF_NUMBER[number[1]]
    else:
        fault = next(
            (fault for words, fault in _FAULT_OF_WORDS.items() if words in remarks),
            XrootdFault.OTHER,
        )
    return XrootdError(fault, f"{what}: {text}")
