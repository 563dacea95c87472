"""Resource use of a tree of processes, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.payload.wrapper import descendants

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat after the program's name, see proc(5); state is field 0.
_TERMINAL, _UTIME, _CSTIME, _RSS = 4, 11, 14, 21


@dataclass(frozen=True)
class TreeUse:
    """CPU time so far, including ended children, and resident memory now."""

    cpu_seconds: float
    rss_bytes: int


def tree_use(root: int) -> TreeUse:
    """Use of all processes below `root`. Shared memory is counted for each process."""
    ticks = 0
    pages = 0
    for process in [root, *descendants(root)]:
        fields = _stat(process)
        if fields is None:
            continue
        # Of the root itself, only the time of its ended children.
        own = fields[_UTIME : _CSTIME + 1]
        ticks += sum(int(field) for field in (own[2:] if process == root else own))
        pages += 0 if process == root else int(fields[_RSS])
    return TreeUse(ticks / _TICKS_PER_SECOND, pages * _PAGE_BYTES)


def proportional_bytes(root: int) -> int:
    """Memory of all processes below `root`, shared pages divided among their users. Slow."""
    total = 0
    for process in descendants(root):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text(
                encoding="ascii", errors="replace"
            )
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def has_terminal(process: int) -> bool:
    """Whether a process has a controlling terminal."""
    fields = _stat(process)
    return fields is not None and fields[_TERMINAL] != "0"


def _stat(process: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()
