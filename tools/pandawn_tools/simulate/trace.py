"""Reads a recorded workload: JSON lines, one per job."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from pandawn_tools.simulate.workload import SimJob

_FORM = (
    '{"t": 0, "job": "1", "task": "1", "priority": 0, "runtime_s": 60, "inputs": [["lfn", 1000]]}'
)


class TraceError(Exception):
    """An invalid trace; the text names the file, the line and the error."""


def read_trace(path: Path) -> list[SimJob]:
    """Reads a trace; returns its jobs sorted by time. Raises `TraceError`."""
    try:
        with path.open(encoding="utf-8") as lines:
            return parse_trace(lines, str(path))
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path} is not UTF-8 text: {error}") from error


def parse_trace(lines: Iterable[str], name: str) -> list[SimJob]:
    """Reads the lines of a trace called `name`, and skips empty ones. Raises `TraceError`."""
    jobs: list[SimJob] = []
    tasks: dict[str, int] = {}
    # A file is a name at a version, and has one size: the first in the trace.
    files: dict[tuple[str, str], tuple[int, int]] = {}
    names: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            jobs.append(_job(_record(line, names), tasks, files))
        except KeyError as error:
            raise TraceError(
                f"{name}:{number}: {error} is missing; a line is like {_FORM}"
            ) from error
        except (ValueError, TypeError) as error:
            raise TraceError(f"{name}:{number}: {error}; a line is like {_FORM}") from error
    if not jobs:
        raise TraceError(f"{name} has no jobs; a line is like {_FORM}")
    first = min(job.at for job in jobs)
    return sorted(
        (SimJob(j.at - first, j.task, j.priority, j.runtime_s, j.inputs) for j in jobs),
        key=lambda job: job.at,
    )


def _record(line: str, names: set[str]) -> Mapping[str, object]:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise TypeError("the line is not a JSON object")
    name = str(record["job"])
    if name in names:
        raise ValueError(f"job {name!r} occurs twice")
    names.add(name)
    return record


def _job(
    record: Mapping[str, object],
    tasks: dict[str, int],
    files: dict[tuple[str, str], tuple[int, int]],
) -> SimJob:
    priority = record.get("priority", 0)
    if not isinstance(priority, int):
        raise TypeError("priority is not an integer")
    inputs = record["inputs"]
    if not isinstance(inputs, list):
        raise TypeError("inputs is not a list")
    # Each file counts once: a pilot stages a file only once, even if it is listed several times.
    read: dict[int, int] = {}
    for entry in inputs:
        if not (isinstance(entry, list) and len(entry) in {2, 3} and isinstance(entry[0], str)):
            raise TypeError('an input is neither ["lfn", bytes] nor ["lfn", bytes, "version"]')
        file = entry[0], str(entry[2]) if len(entry) > 2 else ""
        number, size = files.setdefault(file, (len(files), int(_number(entry[1], "a size"))))
        read[number] = size
    return SimJob(
        at=_number(record["t"], "t", may_be_negative=True),
        task=tasks.setdefault(str(record["task"]), len(tasks) + 1),
        priority=priority,
        runtime_s=_number(record["runtime_s"], "runtime_s"),
        inputs=tuple(read.items()),
    )


def _number(value: object, what: str, *, may_be_negative: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{what} is not a number")
    if value < 0 and not may_be_negative:
        raise ValueError(f"{what} is negative")
    return value
