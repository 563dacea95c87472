"""Summarizes the findings of an import: by field, and single errors that a person must check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pandawn_tools.cric.findings import Finding, Outcome
from pandawn_tools.cric.reader import CricQueue


@dataclass(slots=True)
class FieldSum:
    """One field over all queues: the number of each outcome, with an example."""

    name: str
    parameter: str = ""
    counts: Counter[Outcome] = field(default_factory=Counter)
    notes: dict[Outcome, str] = field(default_factory=dict)
    first: str = ""

    @property
    def note(self) -> str:
        """The most useful note: the conversion of a value, if there was one."""
        order = (Outcome.MAPPED, Outcome.UNSET, *Outcome)
        return next((self.notes[outcome] for outcome in order if outcome in self.notes), "")


@dataclass(frozen=True, slots=True)
class Report:
    """The findings about a list of queues."""

    fields: Sequence[FieldSum]
    wrong: Sequence[Finding]
    left: Sequence[str]

    def of(self, outcome: Outcome) -> list[FieldSum]:
        """Returns the fields that had an outcome in any queue."""
        return [item for item in self.fields if item.counts[outcome]]


def make_report(queues: Iterable[CricQueue]) -> Report:
    """Sums up the findings of all queues."""
    sums: dict[tuple[str, str], FieldSum] = {}
    wrong: list[Finding] = []
    left: list[str] = []
    for queue in queues:
        if not queue.is_usable:
            left.append(queue.name)
        for finding in queue.findings:
            item = sums.setdefault(
                (finding.field, finding.parameter),
                FieldSum(finding.field, finding.parameter, first=queue.name),
            )
            item.counts[finding.outcome] += 1
            if finding.note:
                item.notes[finding.outcome] = finding.note
            if finding.outcome in {Outcome.WRONG, Outcome.FATAL}:
                wrong.append(finding)
    return Report(sorted(sums.values(), key=lambda s: (s.parameter, s.name)), wrong, left)
