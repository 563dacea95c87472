"""Files of jobs: inputs from submission on, outputs and logs once they are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import insert, select

from pandawn_server.domain.tasks import File, FileRole
from pandawn_server.storage.among import among
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.schema import job_files


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job and its role."""

    job_id: int
    role: FileRole
    position: int
    file: File


def insert_files(tx: Transaction, files: Iterable[JobFile]) -> None:
    """Stores files."""
    rows = [
        {
            "job_id": f.job_id,
            "role": f.role.value,
            "position": f.position,
            "scope": f.file.scope,
            "lfn": f.file.lfn,
            "guid": f.file.guid,
            "size_bytes": f.file.size_bytes,
            "checksum": f.file.checksum,
            "url": f.file.url,
        }
        for f in files
    ]
    if rows:
        tx.execute(insert(job_files), rows)


def get_files(
    tx: Transaction, job_ids: Collection[int], roles: Collection[FileRole] = tuple(FileRole)
) -> dict[int, list[JobFile]]:
    """Files of jobs in the order of their positions, by job; jobs without files have an empty list."""
    found: dict[int, list[JobFile]] = {job_id: [] for job_id in job_ids}
    query = (
        select(job_files)
        .where(
            among(tx, job_files.c.job_id, job_ids),
            job_files.c.role.in_([role.value for role in roles]),
        )
        .order_by(job_files.c.job_id, job_files.c.role, job_files.c.position)
    )
    for row in tx.execute(query).mappings():
        file = File(
            row["lfn"], row["size_bytes"], row["url"], row["scope"], row["guid"], row["checksum"]
        )
        found[row["job_id"]].append(
            JobFile(row["job_id"], FileRole(row["role"]), row["position"], file)
        )
    return found
