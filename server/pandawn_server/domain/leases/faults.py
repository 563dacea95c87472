"""The table of faults: for each reason why an attempt failed, who is to blame, and the effect on job and node.

`docs/faults.md` shows it; a test compares the two. Only the reason in a pilot's report counts. The
component in it is ignored, or a compromised node could blame users for its own faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntEnum

from pandawn_server.domain.tasks.jobs import ErrorComponent, JobError


class Blame(Enum):
    """Who may be to blame."""

    CODE = "user's code"
    REQUEST = "user's request"
    INPUT = "user's input"
    NODE = "node"
    STORAGE = "storage"
    NETWORK = "network"
    BATCH = "batch system"
    SERVER = "server"
    SITE = "site's configuration"
    PILOT = "pilot"


class Count(Enum):
    """Which counter of the job the attempt increases."""

    FAILED = "failed"
    """Counts against the task's `max_attempts`."""
    LOST = "lost"
    """Not the job's fault: counts against `MAX_LOST`."""
    NOTHING = "nothing"
    """The job is given back, and no counter changes."""


class Final(Enum):
    """When the job fails for good, because another attempt would fail too."""

    NEVER = "never"
    AT_ONCE = "at once"
    TWO_NODES = "after two nodes"


class Evidence(Enum):
    """When the fault counts against the node."""

    NONE = "never"
    OWN = "always"
    """Only the node explains it: no comparison is needed."""
    COMPARED = "if the task succeeds elsewhere"
    """Compared with the same tasks on other nodes."""
    WEAK = "if the tasks of four users succeed elsewhere"
    """Compared likewise, but weighs less: a user controls how, and on which node, his code fails."""


class Step(IntEnum):
    """How far an attempt came. One that came further on another node did not have this fault there."""

    BEGIN = 0
    STAGE_IN = 1
    START = 2
    PAYLOAD = 3
    STAGE_OUT = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of faults that are handled in the same way.

    The first retry waits for `first`, the second for `second`, and each later one `growth` times as long as the
    one before, up to `longest`. With `elsewhere` a retry prefers nodes on which the job has not failed.
    """

    name: str
    blame: tuple[Blame, ...]
    count: Count
    final: Final = Final.NEVER
    evidence: Evidence = Evidence.NONE
    first: timedelta = timedelta(0)
    second: timedelta = timedelta(seconds=10)
    growth: float = 3.0
    longest: timedelta = timedelta(minutes=30)
    elsewhere: bool = True

    def pause(self, number: int) -> timedelta:
        """The pause before the next attempt, after the `number`-th one (from 1) that counted alike."""
        if number <= 1:
            return self.first
        # The bound keeps the power from overflowing.
        return min(self.second * self.growth ** min(number - 2, 10), self.longest)


_S = timedelta(seconds=1)

MAX_LOST = 10
"""Lost attempts after which a job fails. With their pauses they take more than an hour."""

CODE = Kind(
    "payload failed",
    (Blame.CODE, Blame.INPUT, Blame.NODE),
    Count.FAILED,
    evidence=Evidence.WEAK,
    first=5 * _S,
    second=20 * _S,
    growth=4.0,
)
START = Kind(
    "payload did not start",
    (Blame.CODE, Blame.NODE),
    Count.FAILED,
    Final.TWO_NODES,
    Evidence.COMPARED,
)
REQUEST = Kind("request does not suffice", (Blame.REQUEST, Blame.CODE), Count.FAILED, Final.AT_ONCE)
MEMORY = Kind("memory", (Blame.REQUEST, Blame.CODE), Count.FAILED, Final.TWO_NODES, first=5 * _S)
WALL_TIME = Kind(
    "wall time",
    (Blame.REQUEST, Blame.CODE, Blame.NODE, Blame.STORAGE),
    Count.FAILED,
    Final.TWO_NODES,
    Evidence.COMPARED,
)
INPUT = Kind(
    "input",
    (Blame.INPUT, Blame.STORAGE, Blame.NODE),
    Count.FAILED,
    Final.TWO_NODES,
    Evidence.COMPARED,
    first=5 * _S,
    second=20 * _S,
    growth=4.0,
)
TRANSFER = Kind(
    "transfer",
    (Blame.NETWORK, Blame.STORAGE, Blame.INPUT, Blame.NODE),
    Count.FAILED,
    evidence=Evidence.COMPARED,
)
STORAGE = Kind(
    "storage",
    (Blame.STORAGE,),
    Count.LOST,
    first=5 * _S,
    second=10 * _S,
    growth=2.0,
    longest=timedelta(minutes=10),
    # All nodes use the same storage.
    elsewhere=False,
)
NODE = Kind("node", (Blame.NODE,), Count.LOST, evidence=Evidence.OWN)
# A payload can fill the disk too, even outside of its directory, and a job may need more space than any
# node has. So the jobs of one user alone must not suspend a node.
ROOM = Kind(
    "room on the node",
    (Blame.NODE, Blame.CODE, Blame.REQUEST),
    Count.FAILED,
    evidence=Evidence.COMPARED,
)
SITE = Kind("site", (Blame.SITE, Blame.NODE, Blame.REQUEST), Count.LOST, evidence=Evidence.COMPARED)
PILOT = Kind("pilot", (Blame.PILOT, Blame.NODE), Count.FAILED, evidence=Evidence.COMPARED)
SERVER = Kind("server", (Blame.SERVER, Blame.NETWORK), Count.LOST, evidence=Evidence.COMPARED)
SILENCE = Kind(
    "silence",
    (Blame.NODE, Blame.BATCH, Blame.NETWORK),
    Count.LOST,
    evidence=Evidence.COMPARED,
    growth=2.0,
    longest=timedelta(minutes=10),
)
GONE = Kind("pilot left", (Blame.BATCH,), Count.LOST, growth=2.0, longest=timedelta(minutes=10))
GIVEN_BACK = Kind("given back", (Blame.BATCH, Blame.NETWORK), Count.NOTHING, elsewhere=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """A reason with its class, the step at which it occurs, and what it means.

    `server_only`: only the server gives this reason; in a pilot's report it is not accepted.
    """

    reason: str
    kind: Kind
    step: Step
    means: str
    server_only: bool = False


def _table(*faults: Fault) -> dict[str, Fault]:
    return {fault.reason: fault for fault in faults}


FAULTS = _table(
    Fault("INPUT_TOO_LARGE", REQUEST, Step.STAGE_IN, "the inputs exceed the queue's limit"),
    Fault("INPUT_MISSING", INPUT, Step.STAGE_IN, "an input file does not exist, or this node does not see it"),
    Fault("INPUT_UNREADABLE", INPUT, Step.STAGE_IN, "the job's account has no permission to read an input file"),
    Fault("INPUT_SIZE_MISMATCH", INPUT, Step.STAGE_IN, "the size of an input file differs from the submitted one"),
    Fault("INPUT_CHANGED", INPUT, Step.STAGE_IN, "an input file has changed since the submission"),
    Fault("INPUT_CHECKSUM_MISMATCH", INPUT, Step.STAGE_IN, "the copy on the node differs from the submitted file"),
    Fault("STAGE_IN_FAILED", TRANSFER, Step.STAGE_IN, "an input could not be copied"),
    Fault("SANDBOX_FAILED", SERVER, Step.STAGE_IN, "the user's code could not be fetched"),
    Fault("BAD_ARCHIVE", START, Step.STAGE_IN, "the user's code or library does not unpack"),
    Fault("NO_TRANSPORT", SITE, Step.STAGE_IN, "the pilot has no transport for such URLs"),
    Fault("NO_LOCAL_SPACE", ROOM, Step.STAGE_IN, "the node's disk is full"),
    Fault("LOCAL_DISK_FAILED", NODE, Step.STAGE_IN, "the node's disk fails or is read-only"),
    Fault("NO_ACCOUNT", NODE, Step.STAGE_IN, "the pilot found no account to run the payload as"),
    Fault("NO_WORK_DIR", NODE, Step.STAGE_IN, "the work directory could not be made, or was removed"),
    Fault("STORAGE_NOT_MOUNTED", NODE, Step.STAGE_IN, "the storage is not mounted on this node"),
    Fault("SETUP_FAILED", SITE, Step.STAGE_IN, "the queue's set-up command failed"),
    Fault("ARGUMENTS_TOO_LONG", REQUEST, Step.START, "command and environment exceed the limit of the system"),
    Fault("PAYLOAD_NOT_FOUND", START, Step.START, "the program does not exist, or this node does not see it"),
    Fault("PAYLOAD_NOT_EXECUTABLE", START, Step.START, "the program is not executable, at least on this node"),
    Fault("PROGRAM_NOT_FOUND", START, Step.START, "the node lacks a program that the command names"),
    Fault("PROGRAM_NOT_EXECUTABLE", START, Step.START, "a program of the node does not run there"),
    Fault("PAYLOAD_NOT_STARTED", NODE, Step.START, "the node cannot start a process in the work directory"),
    Fault("PAYLOAD_FAILED", CODE, Step.PAYLOAD, "the payload's exit status was not 0"),
    Fault("PAYLOAD_KILLED", CODE, Step.PAYLOAD, "a signal ended the payload"),
    Fault("OUTPUT_MISSING", CODE, Step.PAYLOAD, "the payload did not write one of its outputs"),
    Fault("LIBRARY_NOT_PACKED", CODE, Step.PAYLOAD, "the result of the build cannot be packed for the other jobs"),
    Fault("FILE_SIZE_LIMITED", ROOM, Step.PAYLOAD, "a file reached the limit that the batch system sets"),
    Fault("OUTPUT_CHANGED", CODE, Step.STAGE_OUT, "an output was still written to after the payload ended"),
    Fault("MEMORY_EXCEEDED", MEMORY, Step.PAYLOAD, "the payload used more memory than the task requested"),
    Fault("WORK_DIR_TOO_LARGE", REQUEST, Step.PAYLOAD, "the payload exceeded its disk limit"),
    Fault("WALL_TIME_EXCEEDED", WALL_TIME, Step.PAYLOAD, "the payload exceeded its wall time limit"),
    Fault("WRAPPER_VANISHED", PILOT, Step.PAYLOAD, "the process that watches the payload disappeared"),
    Fault("STAGE_OUT_FAILED", TRANSFER, Step.STAGE_OUT, "an output could not be stored"),
    Fault("STORAGE_FULL", STORAGE, Step.STAGE_OUT, "the storage is full, or the user's quota is"),
    Fault("STORAGE_UNAVAILABLE", STORAGE, Step.STAGE_OUT, "the storage does not answer, or reports its own failure"),
    Fault("STORAGE_READ_ONLY", STORAGE, Step.STAGE_OUT, "the storage is read-only"),
    Fault("STORAGE_FORBIDDEN", SITE, Step.STAGE_OUT, "the pilot has no permission to write the outputs"),
    Fault("PILOT_ERROR", PILOT, Step.BEGIN, "an unexpected error in the pilot"),
    Fault("CANCELLED", GIVEN_BACK, Step.BEGIN, "the job was cancelled; without such a request it is given back"),
    Fault("PILOT_STOPPED", GIVEN_BACK, Step.BEGIN, "the batch system or an operator stopped the pilot"),
    Fault("PILOT_OUT_OF_TIME", GIVEN_BACK, Step.BEGIN, "the pilot's time ended before the job did"),
    Fault("HAND_OUT_NOT_ACKNOWLEDGED", GIVEN_BACK, Step.BEGIN, "the pilot did not acknowledge it", server_only=True),
    Fault("LEASE_LAPSED_BEFORE_START", SILENCE, Step.BEGIN, "the pilot's heartbeats stopped", server_only=True),
    Fault("LEASE_LAPSED_IN_STAGE_IN", SILENCE, Step.STAGE_IN, "the pilot's heartbeats stopped", server_only=True),
    Fault("LEASE_LAPSED_IN_PAYLOAD", SILENCE, Step.PAYLOAD, "the pilot's heartbeats stopped", server_only=True),
    Fault("LEASE_LAPSED_IN_STAGE_OUT", SILENCE, Step.STAGE_OUT, "the pilot's heartbeats stopped", server_only=True),
    Fault("PILOT_ENDED", GONE, Step.BEGIN, "the pilot deregistered while it had the job", server_only=True),
    Fault("NODE_REMOVED", GONE, Step.BEGIN, "an operator removed the node", server_only=True),
)  # fmt: skip
"""Every known reason, of this project's pilots and of the server itself."""

_UNKNOWN = {
    ErrorComponent.PAYLOAD: Fault("", CODE, Step.PAYLOAD, "a reason that the server does not know"),
    ErrorComponent.PILOT: Fault("", PILOT, Step.BEGIN, "a reason that the server does not know"),
    ErrorComponent.SERVER: Fault("", PILOT, Step.BEGIN, "a reason that only the server may give"),
}
"""The faults for all other reasons: other kinds of pilots have their own."""


def fault_of(error: JobError, *, reported: bool) -> Fault:
    """The fault for an error; `reported` if a pilot reported it, which cannot give the server's own reasons."""
    known = FAULTS.get(error.reason)
    if known is None or (reported and known.server_only):
        return _UNKNOWN[ErrorComponent.PILOT if known is not None else error.component]
    return known
