"""Packs the log tarball, which shows how a job ran and ended."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from pandawn_pilot.job.work_dir import JobDir

# Longer files lose their middle; causes and errors are at the beginning and the end.
HEAD_BYTES = 1 * 1024 * 1024
TAIL_BYTES = 7 * 1024 * 1024


def pack_log(job_dir: JobDir, archive: Path) -> None:
    """Packs the payload's output, the pilot's log and the job's description into a tar.gz archive.

    The archive's size is bounded. Raises OSError.
    """
    with tarfile.open(archive, "w:gz") as tar:
        for path in (job_dir.stdout, job_dir.stderr, job_dir.log, job_dir.spec):
            if path.is_file() and not path.is_symlink():
                content = _bounded(path)
                member = tarfile.TarInfo(path.name)
                member.size = len(content)
                member.mtime = int(path.stat().st_mtime)
                member.mode = 0o644
                tar.addfile(member, io.BytesIO(content))


def _bounded(path: Path) -> bytes:
    # A payload of the pilot's account can put a link here; it is not followed.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= HEAD_BYTES + TAIL_BYTES:
            return stream.read(HEAD_BYTES + TAIL_BYTES)
        head = stream.read(HEAD_BYTES)
        stream.seek(size - TAIL_BYTES)
        note = f"\n[... {size - HEAD_BYTES - TAIL_BYTES} bytes left out by the pilot ...]\n"
        return head + note.encode() + stream.read(TAIL_BYTES)
