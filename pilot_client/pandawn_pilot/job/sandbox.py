"""Fetches the sandbox, a task's user code, from the server."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pandawn.dispatcher.v1.sandbox_pb2 import DownloadSandboxRequest
from pandawn_client.calls import persist, read_stream
from pandawn_client.connection import Connection
from pandawn_client.refusals import CallError
from pandawn_pilot.cache.input_cache import InputCache
from pandawn_pilot.errors import SANDBOX_FAILED, JobFailedError
from pandawn_pilot.logs import Log
from pandawn_pilot.stop import Stop

# A sandbox has at most 64 MiB, so this allows a very slow connection.
DOWNLOAD_TIMEOUT_SECONDS = 600.0


def bring_sandbox(
    cache: InputCache | None,
    connection: Connection,
    sandbox_id: str,
    archive: Path,
    stop: Stop,
    log: Log,
) -> None:
    """Puts the archive at `archive`; with a cache, a node downloads it once.

    Raises what `download_sandbox` raises.
    """

    def download(path: Path) -> None:
        download_sandbox(connection, sandbox_id, path, stop, log)

    if cache is None:
        download(archive)
    elif cache.deliver_code(sandbox_id, archive, download, stop):
        log.info("sandbox %s taken from the cache", sandbox_id)


def download_sandbox(
    connection: Connection, sandbox_id: str, archive: Path, stop: Stop, log: Log
) -> None:
    """Writes the archive to `archive` and checks that it is the one asked for.

    Retries while the server is unreachable. Raises JobFailedError (SANDBOX_FAILED) and
    StoppedError.
    """
    try:
        digest = persist(
            lambda: _download(connection, sandbox_id, archive, stop),
            "download of the sandbox",
            log,
            stop=stop,
        )
    except CallError as failure:
        raise JobFailedError(
            SANDBOX_FAILED, f"cannot fetch sandbox {sandbox_id}: {failure}"
        ) from failure
    # The identifier is the SHA-256 of the content.
    if digest != sandbox_id:
        raise JobFailedError(SANDBOX_FAILED, f"sandbox {sandbox_id} arrived with SHA-256 {digest}")


def _download(connection: Connection, sandbox_id: str, archive: Path, stop: Stop) -> str:
    digest = hashlib.sha256()
    request = DownloadSandboxRequest(sandbox_id=sandbox_id)
    with archive.open("wb") as stream:
        for piece in read_stream(
            connection.dispatcher.DownloadSandbox, request, DOWNLOAD_TIMEOUT_SECONDS
        ):
            stop.check()
            stream.write(piece.chunk)
            digest.update(piece.chunk)
    return digest.hexdigest()
