"""An account that reads from storage or runs payloads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Account:
    """An account of the node. `name` is its number if it has no name.

    `made`: for one payload at a time; no one else uses it, and its leftovers are removed.
    """

    uid: int
    gid: int
    name: str
    made: bool = False
