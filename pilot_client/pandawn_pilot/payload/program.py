"""What is run as a payload."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pandawn_transports.account import Account


@dataclass(frozen=True)
class Program:
    """What to run, where, and the files that take what it prints.

    What counts for the size of the work directory is all below `measured`. `account` None: the
    pilot's own. `separate`: in name spaces of its own. `behind_setup`: what is run is the queue's
    set-up, with the payload behind it.
    """

    arguments: list[str]
    environment: dict[str, str]
    work_dir: Path
    stdout: Path
    stderr: Path
    measured: Path
    account: Account | None = None
    separate: bool = False
    behind_setup: bool = False
