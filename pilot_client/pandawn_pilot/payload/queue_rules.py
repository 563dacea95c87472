"""What the parameters of a queue mean to a pilot and its jobs. Options of the pilot go before them."""

from __future__ import annotations

from collections.abc import Sequence

from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn.queueconfig.v1.parameters_pb2 import (
    PAYLOAD_ISOLATION_NONE,
    PAYLOAD_ISOLATION_REQUIRED,
    QUEUE_STATUS_OFFLINE,
    QueueParameters,
)
from pandawn.queueconfig.v1.queue_pb2 import Queue
from pandawn_pilot.node.accounts import SAME, AccountChoice
from pandawn_pilot.payload.start import SETUP_DESCRIPTOR

# What the queue's set-up tells of itself: that it is over, or that the program is not there after it.
SETUP_OVER = "over"
SETUP_PROGRAM_MISSING = "missing"


def why_to_end(queue: Queue) -> str | None:
    """Why a pilot of the queue takes no more jobs; None while it may."""
    if queue.parameters.status != QUEUE_STATUS_OFFLINE:
        return None
    reason = queue.parameters.state_reason
    because = f": {reason}" if reason else ""
    return f"queue {queue.name} is offline{because}"


def account_choice(
    queue: QueueParameters, option: AccountChoice | None, *, is_root: bool
) -> AccountChoice | None:
    """Under which account payloads are to run; None: the safest that the pilot can give."""
    if option is not None or not is_root:
        return option
    if queue.payload_isolation == PAYLOAD_ISOLATION_NONE:
        return AccountChoice(name=SAME)
    return AccountChoice(name=queue.payload_account) if queue.payload_account else None


def wants_isolation(queue: QueueParameters) -> bool:
    """Whether payloads must run under another account than the pilot."""
    return queue.payload_isolation == PAYLOAD_ISOLATION_REQUIRED


def uses_cache(queue: QueueParameters) -> bool:
    """Whether inputs are kept in the node's cache."""
    return queue.use_pcache or not queue.HasField("use_pcache")


def local_input(item: InputFile, queue: QueueParameters) -> InputFile:
    """An input with the URL under which this queue's nodes find it: the longest known beginning counts."""
    begins = [key for key in queue.url_prefixes.values if key and item.url.startswith(key)]
    if not begins:
        return item
    begin = max(begins, key=len)
    found = InputFile()
    found.CopyFrom(item)
    found.url = queue.url_prefixes.values[begin] + item.url.removeprefix(begin)
    return found


def queue_environment(queue: QueueParameters) -> dict[str, str]:
    """What payloads of the queue find in their environment; their tasks may say otherwise."""
    environment = dict(queue.environment.values)
    if queue.app_dir:
        environment["PANDAWN_APP_DIR"] = queue.app_dir
    return environment


def behind_setup(queue: QueueParameters, arguments: Sequence[str]) -> list[str]:
    """The command that runs the queue's set-up and then the payload, in one shell.

    The shell looks for the program, as the set-up may change where it is; last in the work directory,
    as ever. It tells how far it got on a descriptor that the payload does not have: a set-up that
    fails is the node's or the site's fault, and not the payload's.
    """
    script = f"""{queue.setup_command}
PATH="$PATH:$PANDAWN_WORK_DIR"
if ! command -v -- "$1" >/dev/null 2>&1; then
    echo {SETUP_PROGRAM_MISSING} >&{SETUP_DESCRIPTOR}
    echo "$1: not found" >&2
    exit 127
fi
echo {SETUP_OVER} >&{SETUP_DESCRIPTOR}
exec {SETUP_DESCRIPTOR}>&-
exec "$@"
"""
    return ["/bin/sh", "-c", script, "sh", *arguments]
