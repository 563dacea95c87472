"""How a queue's parameters affect a pilot and its jobs. Options of the pilot override them."""

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

# What the queue's set-up reports: it is over, or the program does not exist after it.
SETUP_OVER = "over"
SETUP_PROGRAM_MISSING = "missing"


def why_to_end(queue: Queue) -> str | None:
    """Why a pilot of the queue must drain; None if it need not."""
    if queue.parameters.status != QUEUE_STATUS_OFFLINE:
        return None
    reason = queue.parameters.state_reason
    because = f": {reason}" if reason else ""
    return f"queue {queue.name} is offline{because}"


def account_choice(
    queue: QueueParameters, option: AccountChoice | None, *, is_root: bool
) -> AccountChoice | None:
    """The account of payloads; None: the safest choice that the pilot can make."""
    if option is not None or not is_root:
        return option
    if queue.payload_isolation == PAYLOAD_ISOLATION_NONE:
        return AccountChoice(name=SAME)
    return AccountChoice(name=queue.payload_account) if queue.payload_account else None


def wants_isolation(queue: QueueParameters) -> bool:
    """Whether payloads must run under another account than the pilot."""
    return queue.payload_isolation == PAYLOAD_ISOLATION_REQUIRED


def uses_cache(queue: QueueParameters) -> bool:
    """Whether jobs use the node's cache."""
    return queue.use_pcache or not queue.HasField("use_pcache")


def local_input(item: InputFile, queue: QueueParameters) -> InputFile:
    """The input with its URL rewritten for this queue's nodes; the longest matching prefix wins."""
    begins = [key for key in queue.url_prefixes.values if key and item.url.startswith(key)]
    if not begins:
        return item
    begin = max(begins, key=len)
    found = InputFile()
    found.CopyFrom(item)
    found.url = queue.url_prefixes.values[begin] + item.url.removeprefix(begin)
    return found


def queue_environment(queue: QueueParameters) -> dict[str, str]:
    """The queue's variables for payloads; a task's variables override them."""
    environment = dict(queue.environment.values)
    if queue.app_dir:
        environment["PANDAWN_APP_DIR"] = queue.app_dir
    return environment


def behind_setup(queue: QueueParameters, arguments: Sequence[str]) -> list[str]:
    """The command that runs the queue's set-up and then the payload, in one shell.

    The shell searches for the program, as the set-up may change PATH; in the work directory last, as
    without a set-up. It reports its progress on a descriptor that the payload does not have: a failed
    set-up is the node's or the site's fault, not the payload's.
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
