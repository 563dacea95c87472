"""The program of a payload."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pandawn_transports.account import Account


@dataclass(frozen=True)
class Program:
    """What to run, where, and the files for its output.

    All below `measured` counts for the size of the work directory. `account` None: the pilot's own.
    `separate`: with its own name spaces. `behind_setup`: the program is the queue's set-up, which then
    runs the payload.
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
