"""Prints the report of an import from CRIC: fields, then errors, then changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pandawn.queueconfig.v1 import document_pb2
from pandawn_tools.cli.jsonout import Json, message_json, print_json
from pandawn_tools.cli.queues.changes import counts, print_diffs
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_count
from pandawn_tools.cric.findings import Finding, Outcome
from pandawn_tools.cric.report import FieldSum, Report

_COLUMNS = (
    Column("FIELD", fold=True),
    Column("PARAMETER", fold=True),
    Column("MAPPED", "right"),
    Column("UNSET", "right"),
    Column("WRONG", "right"),
    Column("AS IN", fold=True),
)
# Number of items shown of a long list without `--all`.
_MOST = 20
_FEW = 5


@dataclass(frozen=True, slots=True)
class Result:
    """Result of an import: the findings, and the server's answer to the changes.

    `reply` is None if no server was `asked`, or if it did not answer.
    """

    source: str
    digest: str
    report: Report
    queues: int
    reply: document_pb2.ApplyConfigResponse | None = None
    vanished: Sequence[str] = ()
    kept: bool = True
    dry_run: bool = True
    asked: bool = False


def print_result(result: Result, *, json_output: bool, everything: bool, diff: bool) -> None:
    """Prints the report, for programs or for people."""
    if json_output:
        print_json(_json(result))
        return
    report = result.report
    mapped = [item for item in report.fields if item.parameter]
    print_table(_COLUMNS, map(_row, mapped), empty="No field has a parameter.")
    _print_fields(report, Outcome.IGNORED)
    _print_fields(report, Outcome.UNKNOWN)
    most = len(report.wrong) if everything else _MOST
    print_lines(_wrong_lines(report.wrong, most))
    if report.left:
        names = _some(report.left, len(report.left) if everything else _FEW)
        note(f"not changed: {format_count(len(report.left), 'queue')} ({names})")
    _say_vanished(result)
    reply = result.reply
    if reply is None:
        why = (
            "they could not be compared" if result.asked else "no server was named to compare with"
        )
        note(f"{format_count(result.queues, 'queue')} read; {why}")
        return
    if diff:
        print_diffs(reply.diffs)
    summary = counts(reply.diffs, done=not result.dry_run) or "nothing to do"
    if result.dry_run:
        note(f"{format_count(result.queues, 'queue')} read: {summary}; nothing was changed")
        if reply.removals > reply.removals_limit:
            note(f"the import would need --allow-offline {reply.removals}")
    elif reply.diffs:
        note(f"{format_count(result.queues, 'queue')} read; revision {reply.revision}: {summary}")
    else:
        note(f"{format_count(result.queues, 'queue')} read: {summary}, revision {reply.revision}")


def _row(item: FieldSum) -> list[Cell]:
    return [
        item.name,
        item.parameter,
        item.counts[Outcome.MAPPED] or "",
        item.counts[Outcome.UNSET] or "",
        item.counts[Outcome.WRONG] + item.counts[Outcome.FATAL] or "",
        item.note,
    ]


def _print_fields(report: Report, outcome: Outcome) -> None:
    sums = report.of(outcome)
    if not sums:
        return
    print_lines([f"{outcome.value}:"])
    by_note: dict[str, list[str]] = {}
    for item in sums:
        once = item.counts.total() == 1
        name = f"{item.name} (in {item.first})" if once else item.name
        by_note.setdefault(item.notes.get(outcome, ""), []).append(name)
    print_lines(f"  {', '.join(names)}: {said}" for said, names in by_note.items())


def _wrong_lines(wrong: Sequence[Finding], most: int) -> Iterator[str]:
    if wrong:
        yield "wrong:"
    for finding in wrong[:most]:
        where = f"{finding.queue} {finding.field}".strip()
        left = " (the queue is not changed)" if finding.outcome is Outcome.FATAL else ""
        yield f"  {where}: {finding.note}{left}"
    if len(wrong) > most:
        yield f"  ... and {len(wrong) - most} more; --all shows them"


def _say_vanished(result: Result) -> None:
    if result.vanished:
        kept = "; they are kept (--vanished offline or delete)" if result.kept else ""
        number = format_count(len(result.vanished), "queue")
        note(f"{number} not in the list ({_some(result.vanished, _FEW)}){kept}")


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _json(result: Result) -> dict[str, Json]:
    report, reply = result.report, result.reply
    return {
        "source": result.source,
        "sha256": result.digest,
        "queues": result.queues,
        "fields": [
            {
                "field": item.name,
                "parameter": item.parameter or None,
                "outcomes": {outcome.name: count for outcome, count in item.counts.items()},
                "note": item.note,
            }
            for item in report.fields
        ],
        "wrong": [
            {
                "queue": finding.queue,
                "field": finding.field,
                "parameter": finding.parameter or None,
                "is_fatal": finding.outcome is Outcome.FATAL,
                "note": finding.note,
            }
            for finding in report.wrong
        ],
        "left_as_they_are": list(report.left),
        "vanished": list(result.vanished),
        "dry_run": result.dry_run,
        "revision": None if reply is None else reply.revision,
        "removals": None if reply is None else reply.removals,
        "diffs": None if reply is None else [message_json(diff) for diff in reply.diffs],
    }
