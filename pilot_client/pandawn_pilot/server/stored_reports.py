"""Reports on their way: kept on disk until the server has taken them, so that they outlive their pilot."""

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
    """A report, the pilot that wrote it, and where it lies; `path` is None for one that does not."""

    path: Path | None
    pilot_id: str
    report: JobReport

    def forget(self) -> None:
        """Removes it from the disk: the server has answered."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Lets it lie for people to look at: nobody will send it."""
        if self.path is not None:
            self.path.rename(self.path.with_suffix(".refused"))


def store_report(directory: Path, pilot_id: str, report: JobReport) -> StoredReport:
    """Writes a report down, to the disk."""
    path = directory / f"{report.lease.job_id}.{report.lease.attempt}.json"
    document = {
        "version": FORMAT_VERSION,
        "pilot_id": pilot_id,
        "report": json_format.MessageToDict(report, preserving_proto_field_name=True),
    }
    replace_text(path, json.dumps(document, indent=1), sync=True, private=True)
    return StoredReport(path, pilot_id, report)


def stored_reports(directory: Path) -> list[StoredReport]:
    """All reports that were not delivered; what cannot be read is left where it is."""
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
