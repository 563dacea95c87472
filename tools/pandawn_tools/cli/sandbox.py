"""Packs the user's code into an archive that is the same whenever its content is.

The server names a sandbox by its content; times, owners and the order of a directory are left
out, so that submitting the same code again uploads and stores nothing new.
"""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.units import format_size

# The server's limit for an archive, and for one message of it.
MAX_SANDBOX_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024

# Not code: the history of the code, and what Python makes of it for itself.
_LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__"})


class _BoundedBuffer(io.BytesIO):
    """Takes an archive until it is too large, so that a wrong directory does not fill memory."""

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > MAX_SANDBOX_BYTES:
            raise usage_error(
                "SANDBOX_TOO_LARGE",
                f"the sandbox is larger than {format_size(MAX_SANDBOX_BYTES)} when compressed",
                details=["nothing was sent"],
                remedies=["leave data out of it; data belongs into input files"],
            )
        return super().write(data)


def pack(directory: Path | None, files: Sequence[Path]) -> bytes:
    """Returns a gzip-compressed tar archive of a directory's content and of single files.

    Single files lie at the top. Version control and `__pycache__` are left out. Permissions are
    reduced to whether the owner may execute.

    Raises:
        CliError: Something cannot be read or packed; all such things are listed.
    """
    entries: dict[str, Path] = {}
    problems: list[str] = []
    if directory is not None:
        entries |= _walk(directory, problems)
    for file in files:
        if file.name in entries:
            problems.append(f"{file}: the sandbox has a {file.name} already")
        elif not file.is_file():
            problems.append(f"{file}: {'is no file' if file.exists() else 'there is no such file'}")
        # What a link points to: the link itself would lead nowhere on a node.
        entries[file.name] = file.resolve()
    problems += (
        f"{path}: may not be read (permissions)"
        for path in entries.values()
        if path.exists() and not path.is_symlink() and not os.access(path, os.R_OK)
    )
    if not entries and not problems:
        problems.append(f"{directory}: there is nothing in it")
    if problems:
        raise usage_error(
            "SANDBOX_UNREADABLE", "the sandbox cannot be packed; nothing was sent", details=problems
        )
    return _archive(entries)


def _walk(directory: Path, problems: list[str]) -> dict[str, Path]:
    if not directory.is_dir():
        what = "is no directory" if directory.exists() else "there is no such directory"
        problems.append(f"{directory}: {what}")
        return {}
    found: dict[str, Path] = {}

    def fail(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}")

    for root, folders, names in os.walk(directory, onerror=fail):
        folders[:] = sorted(folder for folder in folders if folder not in _LEFT_OUT)
        here = Path(root)
        for name in [*folders, *names]:
            path = here / name
            found[path.relative_to(directory).as_posix()] = path
            _check(path, directory, problems)
    return found


def _check(path: Path, directory: Path, problems: list[str]) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        if not path.resolve().is_relative_to(directory.resolve()):
            problems.append(f"{path}: links to {path.readlink()}, outside of the sandbox")
        elif path.readlink().is_absolute():
            problems.append(f"{path}: links to an absolute path, which a node does not have")
    elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        problems.append(f"{path}: is neither file, directory nor link")


def _archive(entries: dict[str, Path]) -> bytes:
    buffer = _BoundedBuffer()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(entries):
            path = entries[name]
            info = archive.gettarinfo(str(path), arcname=name)
            info.mtime = 0
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.isdir() or info.mode & stat.S_IXUSR else 0o644
            # A file with two names is packed twice: which of them came first is an accident.
            if info.islnk():
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
    return buffer.getvalue()


def upload(client: Client, archive: bytes) -> str:
    """Uploads an archive and returns the identifier of the sandbox.

    Raises:
        CliError: The server refused it or cannot be reached.
    """

    def chunks() -> Iterator[broker.UploadSandboxRequest]:
        for begin in range(0, len(archive), _CHUNK_BYTES):
            yield broker.UploadSandboxRequest(chunk=archive[begin : begin + _CHUNK_BYTES])

    response = client.upload(client.broker.UploadSandbox, chunks)
    return response.sandbox_id
