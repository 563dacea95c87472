"""The maximum size of a reply: no message of the server exceeds what every gRPC client accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pandawn_server.domain.errors import Violation
from pandawn_server.domain.tasks.tasks import File, NewJob, OutputPlan, TaskSpec

MAX_REPLY_BYTES = 4 * 1024**2
"""Maximum size of a reply: the default limit of the gRPC libraries in all languages."""

LIST_BYTES = 3_500_000
"""Maximum share of a reply for the rows of a page, the jobs of a hand-out or the description of one job; the
rest is for the other fields."""

_FILE_BYTES = 64
"""Size of the tags, lengths and numbers of one file in a message."""

_JOB_BYTES = 4096
"""The same for one job, with its explanation, token and limits."""

_LONGEST_FILE_BYTES = 6_000
"""Maximum size of one file: a URL has at most 4,096 bytes, and an output adds about 600."""


def file_bytes(file: File) -> int:
    """Upper bound on the bytes that a file takes in a message."""
    texts = (file.lfn, file.url, file.scope, file.guid, file.checksum, file.version)
    return _FILE_BYTES + sum(map(_utf8_bytes, texts))


def job_bytes(spec: TaskSpec, inputs: Iterable[File], outputs: Iterable[OutputPlan]) -> int:
    """Upper bound on the bytes that a job's description takes in a message."""
    return (
        _spec_bytes(spec)
        + sum(map(file_bytes, inputs))
        + sum(_FILE_BYTES + _utf8_bytes("".join(plan[:4])) for plan in outputs)
    )


def too_large_to_describe(spec: TaskSpec, jobs: Sequence[NewJob]) -> list[Violation]:
    """The violations of jobs whose description would not fit in a reply to a pilot."""
    # The outputs, log and library count at their maximum: their URLs are not known yet.
    own = _spec_bytes(spec) + (len(spec.outputs) + 2) * _LONGEST_FILE_BYTES
    if own > LIST_BYTES:
        return [
            Violation(
                "task",
                f"command, environment and outputs take {own:,} bytes; a job's description may have {LIST_BYTES:,} "
                "bytes; move long texts into the sandbox",
            )
        ]
    return [
        Violation(
            "task.files_per_job",
            f"run job {job.index} has {len(job.inputs):,} input files, whose names and URLs take {size:,} bytes; "
            f"a job's description has room for {LIST_BYTES - own:,} bytes of them; give each job fewer files",
        )
        for job in jobs
        # The number of files settles nearly all cases.
        if own + len(job.inputs) * _LONGEST_FILE_BYTES > LIST_BYTES
        and own + (size := sum(map(file_bytes, job.inputs))) > LIST_BYTES
    ]


def _spec_bytes(spec: TaskSpec) -> int:
    texts = (*spec.command, *spec.build_command, *spec.environment, *spec.environment.values())
    return _JOB_BYTES + sum(8 + _utf8_bytes(text) for text in texts)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
