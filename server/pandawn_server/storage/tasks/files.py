"""Files of jobs: inputs, in one row for each job, and stored files, in one row for each file.

A task has many more inputs than jobs, and no query needs a single input: with one row for each,
submission and matching would be several times slower.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select

from pandawn_server.domain.catalog.file_version import file_version
from pandawn_server.domain.tasks.tasks import File, FileRole
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.tasks.schema import job_files, job_inputs, jobs

PackedFile = list[str | int]
"""LFN, size in bytes, URL, scope, GUID, checksum, version; of the last four, trailing empty ones are left out.

Rows older than file versions end before the version: it is unknown.
"""

_FILES_A_STATEMENT = 20_000
"""Limit per statement: one with all inputs of the largest task would take several gigabytes."""

_NEVER_LEFT_OUT = 3
_VERSION_AT = 6

_AS_CHECKSUM = "="
"""Replaces a version that equals the checksum, as with a strong one: both are long, and tasks have many files."""


def pack(file: File) -> PackedFile:
    """Returns a file in the form stored in the row of its job."""
    packed: PackedFile = [
        file.lfn,
        file.size_bytes,
        file.url,
        file.scope,
        file.guid,
        file.checksum,
        _AS_CHECKSUM if file.version and file.version == file.checksum else file.version,
    ]
    while packed[-1] == "" and len(packed) > _NEVER_LEFT_OUT:
        packed.pop()
    return packed


def unpack(packed: Sequence[str | int]) -> File:
    """Returns a file from its stored form; raises `TypeError` for one that this version cannot have written."""
    file = File(*packed)  # type: ignore[arg-type]
    return file._replace(version=file.checksum) if file.version == _AS_CHECKSUM else file


def packed_version(packed: Sequence[Any]) -> str:
    """Returns the version of a file from its stored form; empty if unknown."""
    if len(packed) <= _VERSION_AT:
        return ""
    version: str = packed[_VERSION_AT]
    return packed[_VERSION_AT - 1] if version == _AS_CHECKSUM else version


def insert_inputs(tx: Transaction, inputs: Iterable[tuple[int, Sequence[File]]]) -> None:
    """Stores the inputs of new jobs; jobs without inputs get no row."""
    rows: list[tuple[int, list[PackedFile]]] = []
    count = 0
    for job_id, read in inputs:
        if read:
            rows.append((job_id, list(map(pack, read))))
            count += len(read)
        if count >= _FILES_A_STATEMENT:
            insert_rows(tx, job_inputs, ("job_id", "files"), rows)
            rows, count = [], 0
    insert_rows(tx, job_inputs, ("job_id", "files"), rows)


def get_inputs(tx: Transaction, job_ids: Collection[int]) -> dict[int, list[File]]:
    """Returns the inputs of jobs in the order of submission, by job; an empty list for jobs without inputs."""
    found: dict[int, list[File]] = {job_id: [] for job_id in job_ids}
    query = select(job_inputs.c.job_id, job_inputs.c.files).where(
        among(tx, job_inputs.c.job_id, job_ids)
    )
    for job_id, packed in tx.execute(query):
        found[job_id] = list(map(unpack, packed))
    return found


def task_inputs(tx: Transaction, task_id: int) -> list[File]:
    """Returns the inputs of a task's jobs, job by job; files that several jobs read are repeated."""
    job_ids = tx.execute(select(jobs.c.job_id).where(jobs.c.task_id == task_id)).scalars()
    # A separate query: with a join, a small task would cost a scan of the inputs of all tasks.
    found = get_inputs(tx, sorted(job_ids))
    return [file for read in found.values() for file in read]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that an attempt stored."""

    job_id: int
    role: FileRole
    position: int
    file: File


def insert_stored(tx: Transaction, stored: Iterable[StoredFile]) -> None:
    """Records stored files."""
    rows = [
        {
            "job_id": s.job_id,
            "role": s.role.value,
            "position": s.position,
            "scope": s.file.scope,
            "lfn": s.file.lfn,
            "guid": s.file.guid,
            "size_bytes": s.file.size_bytes,
            "checksum": s.file.checksum,
            "url": s.file.url,
        }
        for s in stored
    ]
    if rows:
        tx.execute(insert(job_files), rows)


def get_stored(tx: Transaction, job_id: int) -> Mapping[tuple[FileRole, str], File]:
    """Returns the outputs and logs of a job by role and LFN, in the order of their positions."""
    query = (
        select(job_files)
        .where(job_files.c.job_id == job_id)
        .order_by(job_files.c.role, job_files.c.position)
    )
    return {
        (FileRole(row["role"]), row["lfn"]): File(
            row["lfn"],
            row["size_bytes"],
            row["url"],
            row["scope"],
            row["guid"],
            row["checksum"],
            file_version(row["url"], checksum=row["checksum"]),
        )
        for row in tx.execute(query).mappings()
    }
