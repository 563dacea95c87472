"""Converts value types that several tables store to columns, and back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping

from pandawn_server.domain.tasks.jobs import ErrorComponent, JobError, Requirements


def seconds(span: timedelta | None) -> float | None:
    """Converts a time span to seconds."""
    return None if span is None else span.total_seconds()


def span(value: float | None) -> timedelta | None:
    """Converts seconds to a time span."""
    return None if value is None else timedelta(seconds=value)


def requirement_columns(requirements: Requirements, prefix: str = "") -> dict[str, Any]:
    """Requirements (or an offer, with its prefix) as columns."""
    return {
        f"{prefix}memory_bytes": requirements.memory_bytes,
        f"{prefix}cores": requirements.cores,
        f"{prefix}disk_bytes": requirements.disk_bytes,
        f"{prefix}wall_time_s": seconds(requirements.wall_time),
    }


def to_requirements(row: RowMapping, prefix: str = "") -> Requirements:
    """Columns as requirements."""
    return Requirements(
        memory_bytes=row[f"{prefix}memory_bytes"],
        cores=row[f"{prefix}cores"],
        disk_bytes=row[f"{prefix}disk_bytes"],
        wall_time=span(row[f"{prefix}wall_time_s"]),
    )


def error_columns(error: JobError | None) -> dict[str, Any]:
    """An error as columns; all are NULL for no error."""
    return {
        "error_component": None if error is None else error.component.value,
        "error_code": None if error is None else error.code,
        "error_reason": None if error is None else error.reason,
        "error_text": None if error is None else error.text,
    }


def to_error(row: RowMapping) -> JobError | None:
    """Columns as an error."""
    if row["error_component"] is None:
        return None
    return JobError(
        ErrorComponent(row["error_component"]),
        row["error_code"],
        row["error_reason"],
        row["error_text"],
    )
