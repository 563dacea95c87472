"""What the parameters of a queue mean to a pilot and its jobs. Options of the pilot go before them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn.queueconfig.v1.queueconfig_pb2 import (
    PAYLOAD_ISOLATION_NONE,
    PAYLOAD_ISOLATION_REQUIRED,
    QUEUE_STATUS_OFFLINE,
    Queue,
)
from pandawn_pilot.accounts import SAME, AccountChoice


def why_to_end(queue: Queue) -> str | None:
    """Why a pilot of the queue takes no more jobs; None while it may."""
    if queue.status != QUEUE_STATUS_OFFLINE:
        return None
    because = f": {queue.state_reason}" if queue.state_reason else ""
    return f"queue {queue.name} is offline{because}"


def account_choice(
    queue: Queue, option: AccountChoice | None, *, is_root: bool
) -> AccountChoice | None:
    """Under which account payloads are to run; None: the safest that the pilot can give."""
    if option is not None or not is_root:
        return option
    if queue.payload_isolation == PAYLOAD_ISOLATION_NONE:
        return AccountChoice(name=SAME)
    return AccountChoice(name=queue.payload_account) if queue.payload_account else None


def wants_isolation(queue: Queue) -> bool:
    """Whether payloads must run under another account than the pilot."""
    return queue.payload_isolation == PAYLOAD_ISOLATION_REQUIRED


def uses_cache(queue: Queue) -> bool:
    """Whether inputs are kept in the node's cache."""
    return queue.use_pcache or not queue.HasField("use_pcache")


def local_input(item: InputFile, queue: Queue) -> InputFile:
    """An input with the URL under which this queue's nodes find it: the longest known beginning counts."""
    begins = [key for key in queue.url_prefixes.values if key and item.url.startswith(key)]
    if not begins:
        return item
    begin = max(begins, key=len)
    found = InputFile()
    found.CopyFrom(item)
    found.url = queue.url_prefixes.values[begin] + item.url.removeprefix(begin)
    return found


def queue_environment(queue: Queue) -> dict[str, str]:
    """What payloads of the queue find in their environment; their tasks may say otherwise."""
    environment = dict(queue.environment.values)
    if queue.app_dir:
        environment["PANDAWN_APP_DIR"] = queue.app_dir
    return environment


def behind_setup(
    queue: Queue, arguments: Sequence[str], environment: dict[str, str], work_dir: Path
) -> list[str]:
    """The command that runs the queue's set-up and then the payload, in one shell.

    The shell looks for the program, as the set-up may change where it is; last in the work directory,
    as ever.
    """
    environment["PANDAWN_WORK_DIR"] = str(work_dir)
    script = f'{queue.setup_command}\nPATH="$PATH:$PANDAWN_WORK_DIR"\nexec "$@"'
    return ["/bin/sh", "-c", script, "sh", *arguments]
