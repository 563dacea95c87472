"""The one table of ways in which an attempt may end badly: whose fault, what becomes of the job and of the node.

`docs/faults.md` shows it; a test compares the two. What a pilot says of itself is its reason only: the
component in its report is not asked, or a compromised node could blame users for its own troubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntEnum

from pandawn_server.domain.tasks.jobs import ErrorComponent, JobError


class Blame(Enum):
    """Whose fault it may be."""

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
    """What an attempt that ended so counts as."""

    FAILED = "failed"
    """Against the task's `max_attempts`."""
    LOST = "lost"
    """Against `MAX_LOST`: not the job's fault."""
    NOTHING = "nothing"
    """It is given back."""


class Final(Enum):
    """When another attempt is not worth its price."""

    NEVER = "never"
    AT_ONCE = "at once"
    TWO_NODES = "after two nodes said so"


class Evidence(Enum):
    """What it counts for against the node."""

    NONE = "nothing"
    OWN = "its own"
    """Nothing but the node explains it: no comparison is needed."""
    COMPARED = "if it goes well elsewhere"
    """What happens to the same tasks on other nodes decides."""
    WEAK = "if it goes well elsewhere, for four users"
    """Likewise, but a user decides how his code ends, and where."""


class Step(IntEnum):
    """How far an attempt was; what came further elsewhere did not have this trouble there."""

    BEGIN = 0
    STAGE_IN = 1
    START = 2
    PAYLOAD = 3
    STAGE_OUT = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of faults with one treatment.

    The first retry waits for `first`, the second for `second`, each other one `growth` times as long as the one
    before, `longest` at most. With `elsewhere` it goes to nodes on which the job has not failed, where there are any.
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
        """How long a job waits after the `number`-th attempt, from 1, that ended like that or as badly."""
        if number <= 1:
            return self.first
        # Ten is more than anybody counts, and keeps the power in bounds.
        return min(self.second * self.growth ** min(number - 2, 10), self.longest)


_S = timedelta(seconds=1)

MAX_LOST = 10
"""Attempts that a job may lose by no fault of its own: with their pauses that is an hour and more."""

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
    # The same storage is behind all nodes.
    elsewhere=False,
)
NODE = Kind("node", (Blame.NODE,), Count.LOST, evidence=Evidence.OWN)
# A payload can fill a disk as well as others, outside of its directory too, and what a job brings or
# writes may be more than any node has room for: one user's word alone must close no node.
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
    """A reason with its class, how far the attempt was, and what it means, in a sentence.

    `server_only`: only the server itself may say so, a pilot that does is not believed.
    """

    reason: str
    kind: Kind
    step: Step
    means: str
    server_only: bool = False


def _table(*faults: Fault) -> dict[str, Fault]:
    return {fault.reason: fault for fault in faults}


FAULTS = _table(
    Fault("INPUT_TOO_LARGE", REQUEST, Step.STAGE_IN, "the inputs exceed what the queue takes"),
    Fault("INPUT_MISSING", INPUT, Step.STAGE_IN, "a file is not there, or not as seen from this node"),
    Fault("INPUT_UNREADABLE", INPUT, Step.STAGE_IN, "a file may not be read by the job's account"),
    Fault("INPUT_SIZE_MISMATCH", INPUT, Step.STAGE_IN, "a file has another size than was named"),
    Fault("INPUT_CHANGED", INPUT, Step.STAGE_IN, "a file is not what the submitter named"),
    Fault("INPUT_CHECKSUM_MISMATCH", INPUT, Step.STAGE_IN, "what came to the node is not the file that was named"),
    Fault("STAGE_IN_FAILED", TRANSFER, Step.STAGE_IN, "an input could not be copied"),
    Fault("SANDBOX_FAILED", SERVER, Step.STAGE_IN, "the user's code could not be fetched"),
    Fault("BAD_ARCHIVE", START, Step.STAGE_IN, "the user's code or library does not unpack"),
    Fault("NO_TRANSPORT", SITE, Step.STAGE_IN, "the pilot cannot read or write such URLs"),
    Fault("NO_LOCAL_SPACE", ROOM, Step.STAGE_IN, "the node's disk is full"),
    Fault("LOCAL_DISK_FAILED", NODE, Step.STAGE_IN, "the node's disk fails or is read-only"),
    Fault("NO_ACCOUNT", NODE, Step.STAGE_IN, "the pilot found no account to run the payload as"),
    Fault("NO_WORK_DIR", NODE, Step.STAGE_IN, "the work directory could not be made, or was taken away"),
    Fault("STORAGE_NOT_MOUNTED", NODE, Step.STAGE_IN, "the storage is not there as seen from this node"),
    Fault("SETUP_FAILED", SITE, Step.STAGE_IN, "the queue's set-up command failed"),
    Fault("ARGUMENTS_TOO_LONG", REQUEST, Step.START, "command and environment are longer than a program can be given"),
    Fault("PAYLOAD_NOT_FOUND", START, Step.START, "there is no such program, or not as seen from this node"),
    Fault("PAYLOAD_NOT_EXECUTABLE", START, Step.START, "the program cannot be run, or not on this node"),
    Fault("PROGRAM_NOT_FOUND", START, Step.START, "the node lacks a program that the command names"),
    Fault("PROGRAM_NOT_EXECUTABLE", START, Step.START, "a program of the node does not run there"),
    Fault("PAYLOAD_NOT_STARTED", NODE, Step.START, "the node could start no process, or not from its work directory"),
    Fault("PAYLOAD_FAILED", CODE, Step.PAYLOAD, "the payload ended with another status than 0"),
    Fault("PAYLOAD_KILLED", CODE, Step.PAYLOAD, "a signal ended the payload"),
    Fault("OUTPUT_MISSING", CODE, Step.PAYLOAD, "the payload did not write an output that it should"),
    Fault("LIBRARY_NOT_PACKED", CODE, Step.PAYLOAD, "what a build has made cannot be packed for the task's other jobs"),
    Fault("FILE_SIZE_LIMITED", ROOM, Step.PAYLOAD, "a file met a limit that the pilot's batch system sets"),
    Fault("OUTPUT_CHANGED", CODE, Step.STAGE_OUT, "something still wrote to an output after the payload's end"),
    Fault("MEMORY_EXCEEDED", MEMORY, Step.PAYLOAD, "the payload took more memory than the task asked for"),
    Fault("WORK_DIR_TOO_LARGE", REQUEST, Step.PAYLOAD, "the payload wrote more than it may"),
    Fault("WALL_TIME_EXCEEDED", WALL_TIME, Step.PAYLOAD, "the payload took longer than it may"),
    Fault("WRAPPER_VANISHED", PILOT, Step.PAYLOAD, "the process that watches the payload is gone"),
    Fault("STAGE_OUT_FAILED", TRANSFER, Step.STAGE_OUT, "an output could not be stored"),
    Fault("STORAGE_FULL", STORAGE, Step.STAGE_OUT, "the storage has no room, or the user's quota has none"),
    Fault("STORAGE_UNAVAILABLE", STORAGE, Step.STAGE_OUT, "the storage does not answer, or fails by itself"),
    Fault("STORAGE_READ_ONLY", STORAGE, Step.STAGE_OUT, "the storage takes no writes"),
    Fault("STORAGE_FORBIDDEN", SITE, Step.STAGE_OUT, "the pilot may not write where outputs go"),
    Fault("PILOT_ERROR", PILOT, Step.BEGIN, "the pilot met what it does not expect"),
    Fault("CANCELLED", GIVEN_BACK, Step.BEGIN, "somebody cancelled the job; one that nobody did is given back"),
    Fault("PILOT_STOPPED", GIVEN_BACK, Step.BEGIN, "the batch system or an operator ended the pilot"),
    Fault("PILOT_OUT_OF_TIME", GIVEN_BACK, Step.BEGIN, "the pilot's time was over before the job's"),
    Fault("HAND_OUT_NOT_ACKNOWLEDGED", GIVEN_BACK, Step.BEGIN, "the pilot never took up the job", server_only=True),
    Fault("LEASE_LAPSED_BEFORE_START", SILENCE, Step.BEGIN, "the pilot fell silent", server_only=True),
    Fault("LEASE_LAPSED_IN_STAGE_IN", SILENCE, Step.STAGE_IN, "the pilot fell silent", server_only=True),
    Fault("LEASE_LAPSED_IN_PAYLOAD", SILENCE, Step.PAYLOAD, "the pilot fell silent", server_only=True),
    Fault("LEASE_LAPSED_IN_STAGE_OUT", SILENCE, Step.STAGE_OUT, "the pilot fell silent", server_only=True),
    Fault("PILOT_ENDED", GONE, Step.BEGIN, "the pilot said goodbye with the job in hand", server_only=True),
    Fault("NODE_REMOVED", GONE, Step.BEGIN, "an operator removed the node", server_only=True),
)  # fmt: skip
"""Every reason that is known, of pilots of this project and of the server itself."""

_UNKNOWN = {
    ErrorComponent.PAYLOAD: Fault("", CODE, Step.PAYLOAD, "a reason that the server does not know"),
    ErrorComponent.PILOT: Fault("", PILOT, Step.BEGIN, "a reason that the server does not know"),
    ErrorComponent.SERVER: Fault("", PILOT, Step.BEGIN, "a reason that only the server may give"),
}
"""What is made of other reasons: pilots of other sorts have their own."""


def fault_of(error: JobError, *, reported: bool) -> Fault:
    """What the table says of an error; `reported` when a pilot said so, whose word is good for some reasons only."""
    known = FAULTS.get(error.reason)
    if known is None or (reported and known.server_only):
        return _UNKNOWN[ErrorComponent.PILOT if known is not None else error.component]
    return known
