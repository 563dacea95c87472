"""Packs the user's code into an archive that depends only on the content of the files.

The server identifies a sandbox by its content. Times, owners and the order of directories are left
out, so that the server stores the same code only once.
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

# Limit of the server for an archive, and the size of one message of the upload.
MAX_SANDBOX_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024

# Not code: version control, and compiled files of Python.
_LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__"})


class _BoundedBuffer(io.BytesIO):
    """A buffer with a size limit, so that a wrong directory does not fill the memory."""

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > MAX_SANDBOX_BYTES:
            raise usage_error(
                "SANDBOX_TOO_LARGE",
                f"the sandbox is larger than {format_size(MAX_SANDBOX_BYTES)} when compressed",
                details=["nothing was sent"],
                remedies=["leave data out of the sandbox, and use input files for it"],
            )
        return super().write(data)


def pack(directory: Path | None, files: Sequence[Path]) -> bytes:
    """Returns a gzip-compressed tar archive of a directory's content and of single files.

    Single files are at the top level. Version control and `__pycache__` are left out. Of the permissions
    only the owner's right to execute is kept.

    Raises:
        CliError: Files cannot be read or packed; all of them are listed.
    """
    entries: dict[str, Path] = {}
    problems: list[str] = []
    if directory is not None:
        entries |= _walk(directory, problems)
    for file in files:
        if file.name in entries:
            problems.append(f"{file}: the sandbox already has a {file.name}")
        elif not file.is_file():
            problems.append(
                f"{file}: {'is not a file' if file.exists() else 'there is no such file'}"
            )
        # The target of a link: the link itself would be broken on a node.
        entries[file.name] = file.resolve()
    problems += (
        f"{path}: no permission to read it"
        for path in entries.values()
        if path.exists() and not path.is_symlink() and not os.access(path, os.R_OK)
    )
    if not entries and not problems:
        problems.append(f"{directory}: the directory is empty")
    if problems:
        raise usage_error(
            "SANDBOX_UNREADABLE", "the sandbox cannot be packed; nothing was sent", details=problems
        )
    return _archive(entries)


def _walk(directory: Path, problems: list[str]) -> dict[str, Path]:
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "there is no such directory"
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
            problems.append(f"{path}: links to {path.readlink()}, outside the sandbox")
        elif path.readlink().is_absolute():
            problems.append(f"{path}: links to an absolute path, which nodes do not have")
    elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        problems.append(f"{path}: is not a file, directory or link")


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
            # A file with two names is packed twice: a link would depend on the order of the names.
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
