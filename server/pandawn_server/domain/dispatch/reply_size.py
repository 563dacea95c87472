"""How much of a reply a job's description takes: what a pilot gets in one message is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pandawn_server.domain.errors import Violation
from pandawn_server.domain.tasks.tasks import File, NewJob, OutputPlan, TaskSpec

MAX_REPLY_BYTES = 4_000_000
"""Descriptions in one reply; most gRPC libraries take messages of 4 MiB. One job alone may take more."""

MAX_JOB_BYTES = 24_000_000
"""Description of one job, well below the 32 MiB that a pilot takes. That of a job is cut by nobody."""

_FILE_BYTES = 64
"""Tags, lengths and numbers of a file in a message."""

_JOB_BYTES = 4096
"""The same of a job, with its explanation, token and limits."""

_LONGEST_FILE_BYTES = 5_000
"""No file takes more: a URL has 4,096 bytes at most."""


def file_bytes(file: File) -> int:
    """Bytes that a file takes in a message, or some more."""
    texts = (file.lfn, file.url, file.scope, file.guid, file.checksum, file.version)
    return _FILE_BYTES + sum(map(_utf8_bytes, texts))


def job_bytes(spec: TaskSpec, inputs: Iterable[File], outputs: Iterable[OutputPlan]) -> int:
    """Bytes that a job's description takes in a message, or some more."""
    texts = (*spec.command, *spec.build_command, *spec.environment, *spec.environment.values())
    return (
        _JOB_BYTES
        + sum(map(file_bytes, inputs))
        + sum(8 + _utf8_bytes(text) for text in texts)
        + sum(_FILE_BYTES + _utf8_bytes("".join(plan[:4])) for plan in outputs)
    )


def too_large_to_describe(jobs: Sequence[NewJob]) -> list[Violation]:
    """The jobs of a submission whose inputs are too many to be told to a pilot."""
    return [
        Violation(
            "task.files_per_job",
            f"run job {job.index} has {len(job.inputs):,} input files, whose names and URLs take {size:,} bytes; "
            f"a pilot can be told {MAX_JOB_BYTES:,} bytes of a job; give each job fewer files",
        )
        for job in jobs
        # Nearly all are judged by the number of their files.
        if len(job.inputs) * _LONGEST_FILE_BYTES > MAX_JOB_BYTES
        and (size := sum(map(file_bytes, job.inputs))) > MAX_JOB_BYTES
    ]


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
