"""The account that reads from storage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Account:
    """An account of the node. `name` is its number where it has no name.

    `made` for one payload at a time: nobody else has it, and nothing of it stays.
    """

    uid: int
    gid: int
    name: str
    made: bool = False
