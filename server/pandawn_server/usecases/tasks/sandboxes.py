"""Users upload their code as sandboxes, and pilots download it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from pandawn_server.domain.access.pilot_rights import acting_session
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.errors import (
    ExhaustedError,
    ForbiddenError,
    InvalidRequestError,
    Violation,
)
from pandawn_server.storage.tasks import sandboxes
from pandawn_server.usecases.context import Context

MAX_SANDBOX_BYTES = 64 * 1024**2
"""Maximum size of a sandbox, for code and small inputs; data belongs in input files, which nodes can cache."""

MAX_BYTES_OF_A_USER = 1024**3
"""Maximum size of one user's sandboxes together: code has a few MiB per version, and all of it is in the database."""

_GZIP_MAGIC = b"\x1f\x8b"


def sandbox_too_large() -> ExhaustedError:
    """Returns the error for a sandbox above the size limit."""
    return ExhaustedError(
        "SANDBOX_TOO_LARGE",
        f"the sandbox is larger than {MAX_SANDBOX_BYTES // 1024**2} MiB; leave data files out and give them as inputs",
    )


def store_sandbox(context: Context, chunks: Sequence[bytes], by: Principal) -> tuple[str, int]:
    """Stores an archive given in chunks; returns its identifier and its size in bytes.

    The caller becomes its owner. The identifier is the checksum, so an upload cannot overwrite another archive: a
    second user who uploads the same archive becomes an owner as well.

    Raises `InvalidRequestError` and `ExhaustedError` (SANDBOX_TOO_LARGE, SANDBOX_QUOTA).
    """
    size = sum(map(len, chunks))
    if size > MAX_SANDBOX_BYTES:
        raise sandbox_too_large()
    if not size or not (chunks[0] + b"".join(chunks[1:2]))[:2] == _GZIP_MAGIC:
        raise InvalidRequestError.of([Violation("chunk", "is not a gzip-compressed tar archive")])
    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    sandbox_id = digest.hexdigest()
    with context.db.write() as tx:
        if by.name and sandbox_id not in sandboxes.sandboxes_of(tx, by.name, [sandbox_id]):
            _check_quota(sandboxes.bytes_of(tx, by.name), size, by)
        if sandboxes.keep(tx, sandbox_id):
            sandboxes.record_upload(tx, sandbox_id, context.clock())
        else:
            sandboxes.insert_sandbox(tx, sandbox_id, size, chunks, context.clock())
        if by.name:
            sandboxes.add_owner(tx, sandbox_id, by.name)
    return sandbox_id, size


def _check_quota(kept: int, more: int, by: Principal) -> None:
    if kept + more > MAX_BYTES_OF_A_USER and not by.is_operator:
        raise ExhaustedError(
            "SANDBOX_QUOTA",
            f"{by.name} has {kept / 1024**2:.0f} MiB of sandboxes on the server; the limit is "
            f"{MAX_BYTES_OF_A_USER // 1024**2} MiB. The server deletes them with old tasks. Leave data files out of "
            "sandboxes and give them as inputs",
        )


def check_may_read(context: Context, sandbox_id: str, by: Principal) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_SANDBOX) unless a pilot of the caller's node and queue needs it."""
    session = acting_session(by)
    if session is None:
        return
    with context.db.read() as tx:
        needed = sandboxes.is_needed(tx, sandbox_id, session)
    if not needed:
        raise ForbiddenError(
            "NOT_YOUR_SANDBOX",
            f"no pilot on {session.key.node} for queue {session.queue} has a job that needs sandbox {sandbox_id}",
            metadata={"sandbox_id": sandbox_id},
        )


def read_chunk(context: Context, sandbox_id: str, position: int) -> bytes | None:
    """Returns one chunk of a stored archive; None after the last one, and for an unknown archive."""
    with context.db.read() as tx:
        return sandboxes.get_chunk(tx, sandbox_id, position)
