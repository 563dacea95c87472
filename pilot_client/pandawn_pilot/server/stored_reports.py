"""Undelivered reports, stored on disk so that they outlive their pilot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from pandawn.dispatcher.v1.report_pb2 import JobReport
from pandawn_pilot.node.durable import replace_text

FORMAT_VERSION = 1


@dataclass(frozen=True)
class StoredReport:
    """A report, its pilot, and its file; `path` is None for one that could not be stored."""

    path: Path | None
    pilot_id: str
    report: JobReport

    def forget(self) -> None:
        """Removes the file: the server has responded."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Renames the file to `.refused`, for administrators: it will not be sent again."""
        if self.path is not None:
            self.path.rename(self.path.with_suffix(".refused"))


def store_report(directory: Path, pilot_id: str, report: JobReport) -> StoredReport:
    """Stores a report, synced to disk. Raises OSError."""
    path = directory / f"{report.lease.job_id}.{report.lease.attempt}.json"
    document = {
        "version": FORMAT_VERSION,
        "pilot_id": pilot_id,
        "report": json_format.MessageToDict(report, preserving_proto_field_name=True),
    }
    replace_text(path, json.dumps(document, indent=1), sync=True, private=True)
    return StoredReport(path, pilot_id, report)


def stored_reports(directory: Path) -> list[StoredReport]:
    """All undelivered reports; skips files that cannot be read."""
    found: list[StoredReport] = []
    for path in sorted(directory.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["version"] != FORMAT_VERSION:
                continue
            report = json_format.ParseDict(document["report"], JobReport())
            found.append(StoredReport(path, str(document["pilot_id"]), report))
        except (OSError, ValueError, KeyError, TypeError, json_format.ParseError):
            continue
    return found
