"""Why a job can fail on a node: the table of reasons, and the exception that carries one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# The contract's bound on the text of an error, in bytes of UTF-8.
MAX_TEXT_BYTES = 2000


class Component(Enum):
    """Who failed."""

    PILOT = "pilot"
    PAYLOAD = "payload"


@dataclass(frozen=True)
class Fault:
    """A reason: UPPER_SNAKE name, PanDA's pilot error code for it, and who failed."""

    reason: str
    code: int
    component: Component


INPUT_TOO_LARGE = Fault("INPUT_TOO_LARGE", 1168, Component.PILOT)
NO_LOCAL_SPACE = Fault("NO_LOCAL_SPACE", 1098, Component.PILOT)
STAGE_IN_FAILED = Fault("STAGE_IN_FAILED", 1099, Component.PILOT)
INPUT_MISSING = Fault("INPUT_MISSING", 1103, Component.PILOT)
INPUT_UNREADABLE = Fault("INPUT_UNREADABLE", 1331, Component.PILOT)
INPUT_SIZE_MISMATCH = Fault("INPUT_SIZE_MISMATCH", 1175, Component.PILOT)
INPUT_CHECKSUM_MISMATCH = Fault("INPUT_CHECKSUM_MISMATCH", 1171, Component.PILOT)
NO_TRANSPORT = Fault("NO_TRANSPORT", 1133, Component.PILOT)
SANDBOX_FAILED = Fault("SANDBOX_FAILED", 1246, Component.PILOT)
BAD_ARCHIVE = Fault("BAD_ARCHIVE", 1110, Component.PILOT)
NO_ACCOUNT = Fault("NO_ACCOUNT", 1199, Component.PILOT)
NO_WORK_DIR = Fault("NO_WORK_DIR", 1199, Component.PILOT)
WORK_DIR_TOO_LARGE = Fault("WORK_DIR_TOO_LARGE", 1104, Component.PILOT)
MEMORY_EXCEEDED = Fault("MEMORY_EXCEEDED", 1235, Component.PILOT)
WALL_TIME_EXCEEDED = Fault("WALL_TIME_EXCEEDED", 1150, Component.PILOT)
PILOT_OUT_OF_TIME = Fault("PILOT_OUT_OF_TIME", 1213, Component.PILOT)
WRAPPER_VANISHED = Fault("WRAPPER_VANISHED", 1176, Component.PILOT)
# In the user's own code.
PAYLOAD_NOT_FOUND = Fault("PAYLOAD_NOT_FOUND", 1305, Component.PAYLOAD)
PAYLOAD_NOT_EXECUTABLE = Fault("PAYLOAD_NOT_EXECUTABLE", 1305, Component.PAYLOAD)
# The command's program, or the interpreter of the user's code, is missing or cannot run on this node.
# The cause is the node or the command; a retry on another node shows which.
PROGRAM_NOT_FOUND = Fault("PROGRAM_NOT_FOUND", 1305, Component.PAYLOAD)
PROGRAM_NOT_EXECUTABLE = Fault("PROGRAM_NOT_EXECUTABLE", 1305, Component.PAYLOAD)
# Command and environment exceed the kernel's limit: the user's request.
ARGUMENTS_TOO_LONG = Fault("ARGUMENTS_TOO_LONG", 1305, Component.PAYLOAD)
# The node could start no process (EAGAIN, ENOMEM, EIO ...), or not from the work directory's disk.
PAYLOAD_NOT_STARTED = Fault("PAYLOAD_NOT_STARTED", 1305, Component.PILOT)
# The queue's set-up command failed before the payload started: the node's or the site's fault.
SETUP_FAILED = Fault("SETUP_FAILED", 1110, Component.PILOT)
# A file hit the batch system's limit (ulimit -f), not one of queue or task.
FILE_SIZE_LIMITED = Fault("FILE_SIZE_LIMITED", 1104, Component.PILOT)
# The result of a build job cannot be packed for the task's other jobs: the user's fault.
LIBRARY_NOT_PACKED = Fault("LIBRARY_NOT_PACKED", 1165, Component.PAYLOAD)
PAYLOAD_FAILED = Fault("PAYLOAD_FAILED", 1305, Component.PAYLOAD)
PAYLOAD_KILLED = Fault("PAYLOAD_KILLED", 1305, Component.PAYLOAD)
OUTPUT_MISSING = Fault("OUTPUT_MISSING", 1165, Component.PAYLOAD)
STAGE_OUT_FAILED = Fault("STAGE_OUT_FAILED", 1137, Component.PILOT)
STORAGE_FULL = Fault("STORAGE_FULL", 1119, Component.PILOT)
# The storage does not respond or fails (EIO, ESTALE): temporary, and not the node's fault.
STORAGE_UNAVAILABLE = Fault("STORAGE_UNAVAILABLE", 1324, Component.PILOT)
STORAGE_READ_ONLY = Fault("STORAGE_READ_ONLY", 1324, Component.PILOT)
# The storage's root is missing on this node, usually not mounted: the node's fault.
STORAGE_NOT_MOUNTED = Fault("STORAGE_NOT_MOUNTED", 1133, Component.PILOT)
# The pilot cannot write to the queue's storage_root: the site's configuration.
STORAGE_FORBIDDEN = Fault("STORAGE_FORBIDDEN", 1137, Component.PILOT)
# The node's own disk fails (EIO, read-only), other than by being full.
LOCAL_DISK_FAILED = Fault("LOCAL_DISK_FAILED", 1098, Component.PILOT)
# The file differs from the one submitted, or changed while it was copied: the user's fault.
INPUT_CHANGED = Fault("INPUT_CHANGED", 1175, Component.PILOT)
# A process still wrote to the output after the payload's end.
OUTPUT_CHANGED = Fault("OUTPUT_CHANGED", 1165, Component.PAYLOAD)
CANCELLED = Fault("CANCELLED", 1144, Component.PILOT)
PILOT_STOPPED = Fault("PILOT_STOPPED", 1201, Component.PILOT)
PILOT_ERROR = Fault("PILOT_ERROR", 1112, Component.PILOT)


class JobFailedError(Exception):
    """A job failed: the fault, and one sentence for its user."""

    def __init__(self, fault: Fault, text: str) -> None:
        self.fault = fault
        self.text = printable(text)
        super().__init__(f"{fault.reason}: {self.text}")


def printable(text: str) -> str:
    """The text as the contract requires: one line, no control characters, at most 2,000 bytes."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
