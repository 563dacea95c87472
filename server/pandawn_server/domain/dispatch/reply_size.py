"""How long a reply may be: no message of the server is longer than what every gRPC client takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pandawn_server.domain.errors import Violation
from pandawn_server.domain.tasks.tasks import File, NewJob, OutputPlan, TaskSpec

MAX_REPLY_BYTES = 4 * 1024**2
"""Longest reply: the default limit of gRPC's libraries in all languages."""

LIST_BYTES = 3_500_000
"""Most that the rows of a page, the jobs of a hand-out or the description of one job take of a reply; the rest is
for what else it says."""

_FILE_BYTES = 64
"""Tags, lengths and numbers of a file in a message."""

_JOB_BYTES = 4096
"""The same of a job, with its explanation, token and limits."""

_LONGEST_FILE_BYTES = 6_000
"""No file takes more: a URL has 4,096 bytes at most, and that of an output some 600 more."""


def file_bytes(file: File) -> int:
    """Bytes that a file takes in a message, or some more."""
    texts = (file.lfn, file.url, file.scope, file.guid, file.checksum, file.version)
    return _FILE_BYTES + sum(map(_utf8_bytes, texts))


def job_bytes(spec: TaskSpec, inputs: Iterable[File], outputs: Iterable[OutputPlan]) -> int:
    """Bytes that a job's description takes in a message, or some more."""
    return (
        _spec_bytes(spec)
        + sum(map(file_bytes, inputs))
        + sum(_FILE_BYTES + _utf8_bytes("".join(plan[:4])) for plan in outputs)
    )


def too_large_to_describe(spec: TaskSpec, jobs: Sequence[NewJob]) -> list[Violation]:
    """What keeps the jobs of a submission from being told to a pilot, in a reply that every client takes."""
    # The outputs, log and library: where they will lie is not known yet.
    own = _spec_bytes(spec) + (len(spec.outputs) + 2) * _LONGEST_FILE_BYTES
    if own > LIST_BYTES:
        return [
            Violation(
                "task",
                f"command, environment and outputs take {own:,} bytes; a pilot can be told {LIST_BYTES:,} bytes of a "
                "job; put what is long into the sandbox",
            )
        ]
    return [
        Violation(
            "task.files_per_job",
            f"run job {job.index} has {len(job.inputs):,} input files, whose names and URLs take {size:,} bytes; "
            f"a pilot can be told {LIST_BYTES - own:,} bytes of them; give each job fewer files",
        )
        for job in jobs
        # Nearly all are judged by the number of their files.
        if own + len(job.inputs) * _LONGEST_FILE_BYTES > LIST_BYTES
        and own + (size := sum(map(file_bytes, job.inputs))) > LIST_BYTES
    ]


def _spec_bytes(spec: TaskSpec) -> int:
    texts = (*spec.command, *spec.build_command, *spec.environment, *spec.environment.values())
    return _JOB_BYTES + sum(8 + _utf8_bytes(text) for text in texts)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
