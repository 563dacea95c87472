"""Writes the tables of `domain/leases/faults.py` into docs/faults.md; with `--check` compares them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from pandawn_server.domain.leases import faults
from pandawn_server.domain.leases.faults import FAULTS, Count, Kind

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- from domain/leases/faults.py -->", "<!-- to here -->"


def span(time: timedelta) -> str:
    """Formats a time for people."""
    seconds = time.total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def retry(kind: Kind) -> str:
    """When a job is retried after such a fault."""
    if kind.count is Count.NOTHING:
        return "at once"
    if kind.final is faults.Final.AT_ONCE:
        return "no"
    pauses = ", ".join("at once" if not p else span(p) for p in map(kind.pause, range(1, 5)))
    return f"{pauses} ... {span(kind.longest)}"


def tables() -> str:
    """Both tables, in the format of the page."""
    kinds = list(dict.fromkeys(fault.kind for fault in FAULTS.values()))
    lines = [
        "| class | whose fault it may be | counts as | final | tried again after | elsewhere | against the node |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in kinds:
        cells = (
            kind.name,
            ", ".join(blame.value for blame in kind.blame),
            kind.count.value,
            kind.final.value,
            retry(kind),
            "yes" if kind.elsewhere and kind.final is not faults.Final.AT_ONCE else "-",
            kind.evidence.value,
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| reason | class | what it means |", "| --- | --- | --- |"]
    lines += [
        f"| `{fault.reason}` | {fault.kind.name} | {fault.means}{' (given by the server only)' * fault.server_only} |"
        for fault in FAULTS.values()
    ]
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """The page with up-to-date tables."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        text = PAGE.read_text(encoding="utf-8")
        sys.exit(0 if with_tables(text) == text else f"{PAGE} is not up to date: run `make stubs`")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
