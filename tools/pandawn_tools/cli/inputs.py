"""The user's input files: which they are, whether they can be read, what they are called.

Everything that can be known to be wrong is found here, all of it at once, before anything is sent.
"""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pandawn_client.file_version import file_version
from pandawn_tools.cli import remote_inputs
from pandawn_tools.cli.checksums import AUTOMATIC_BYTES, Wish, sha256_of_all
from pandawn_tools.cli.errors import usage_error
from pandawn_transports import TRANSPORTS, TransferError, TransferFault

_COMMAND_HINT = "if that was meant as the command to run, put it after a --"
_STDIN = "-"
# Times that the contract can say, the years 1 to 9999. Others are of broken clocks and file systems.
_FIRST_NS = -62_135_596_800 * 10**9
_END_NS = 253_402_300_800 * 10**9


@dataclass(frozen=True, slots=True)
class Named:
    """A file as the user named it: the text, and where it stands (`list.dat:3`, `argument 2`)."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file that is there, as it is now. `path` is its path here, or its URL elsewhere.

    `checksum` is `sha256:`, `adler32:` or `md5:` and hex digits, or empty. `modify_time_ns` (since 1970; None: not
    known) and `inode` (0: not known) tell a file that was written anew from the one that was meant.
    """

    place: str
    path: Path | str
    lfn: str
    size_bytes: int
    checksum: str = ""
    modify_time_ns: int | None = None
    inode: int = 0

    @property
    def url(self) -> str:
        """Where pilots find it."""
        return self.path if isinstance(self.path, str) else self.path.as_uri()

    @property
    def version(self) -> str:
        """The version that a task over this file names, unless its site declares names to be enough."""
        return file_version(
            self.url,
            checksum=self.checksum,
            modify_time_ns=self.modify_time_ns,
            inode=self.inode,
        )


class _ProblemError(Exception):
    """Why one file cannot be used."""


def read_list(path: str) -> list[Named]:
    """Reads a list of files, one path or URL a line; `-` is standard input.

    Behind the URL of a file elsewhere may stand size and checksum, which spares a question to its server.
    Blank lines and lines that begin with `#` are skipped.

    Raises:
        CliError: The list cannot be read, or names no file.
    """
    try:
        raw = sys.stdin.buffer.read() if path == _STDIN else Path(path).read_bytes()
    except OSError as error:
        raise usage_error(
            "FILE_MISSING" if isinstance(error, FileNotFoundError) else "FILE_UNREADABLE",
            f"the list of input files {path} cannot be read",
            details=[error.strerror or str(error)],
            remedies=[f"relative paths are looked up from {Path.cwd()}"],
        ) from error
    shown = "stdin" if path == _STDIN else path
    # Not splitlines(), to which more characters end a line than may stand in a name.
    lines = enumerate(os.fsdecode(raw).split("\n"), start=1)
    entries = [
        Named(text, f"{shown}:{number}")
        for number, line in lines
        if (text := line.strip()) and not text.startswith("#")
    ]
    if not entries:
        raise usage_error(
            "EMPTY_FILE_LIST",
            f"the list of input files {shown} names no file",
            details=["all its lines are blank or comments" if raw else "it is empty"],
            remedies=["write one path a line"],
        )
    return entries


def name_arguments(arguments: Iterable[str]) -> list[Named]:
    """Returns the files that were named on the command line."""
    return [Named(text, f"argument {number}") for number, text in enumerate(arguments, start=1)]


def inspect(
    names: Sequence[Named], *, lfn_depth: int, checksum: Wish, if_missing: str = _COMMAND_HINT
) -> list[InputFile]:
    """Looks at each file and gives it its logical name: the last `lfn_depth` parts of its path.

    `if_missing` is the advice for an argument that is no file.

    Raises:
        CliError: Some cannot be used (all are listed with their places), or two get one LFN.
    """
    files: list[InputFile] = []
    problems: list[str] = []
    missing = 0
    remote = remote_inputs.look_up(
        (named.text for named in names if remote_inputs.is_remote(named.text)), checksum
    )
    for named in names:
        try:
            if named.text in remote:
                files.append(_take_remote(named, remote[named.text], lfn_depth))
            else:
                files.append(_inspect_one(named, lfn_depth))
        except FileNotFoundError:
            missing += 1
            problems.append(f"{named.place}: {named.text}: there is no such file")
        except OSError as error:
            problems.append(f"{named.place}: {named.text}: {error.strerror or error}")
        except _ProblemError as problem:
            problems.append(f"{named.place}: {named.text}: {problem}")
    if not problems:
        _check_distinct(files)
        files, problems = _with_checksums(files, checksum)
    if problems:
        noun = "input file" if len(names) == 1 else "input files"
        raise usage_error(
            "FILE_MISSING" if missing == len(problems) else "FILE_UNREADABLE",
            f"{len(problems)} of {len(names)} {noun} cannot be used; nothing was sent",
            details=problems,
            remedies=_hints(names, missing, if_missing),
        )
    return files


def _with_checksums(files: Sequence[InputFile], wish: Wish) -> tuple[list[InputFile], list[str]]:
    """The files, the local ones with checksums if they are to have them; and what is wrong with some."""
    paths = {file.path: file for file in files if isinstance(file.path, Path)}
    total = sum(file.size_bytes for file in paths.values())
    if wish is Wish.NEVER or (wish is Wish.AUTOMATIC and total > AUTOMATIC_BYTES):
        return list(files), []
    found = dict(zip(paths, sha256_of_all([*paths], total), strict=True))
    known: list[InputFile] = []
    problems: list[str] = []
    for file in files:
        checksum = (
            found.get(file.path, file.checksum) if isinstance(file.path, Path) else file.checksum
        )
        if isinstance(checksum, OSError):
            problems.append(f"{file.place}: {file.path}: {checksum.strerror or checksum}")
        elif isinstance(file.path, Path) and _has_changed(file, file.path):
            problems.append(
                f"{file.place}: {file.path}: changed while it was read; wait for its writer"
            )
        else:
            known.append(replace(file, checksum=checksum))
    return known, problems


def _has_changed(file: InputFile, path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return True
    now = (status.st_size, status.st_mtime_ns, status.st_ino)
    return now != (file.size_bytes, file.modify_time_ns, file.inode)


def _hints(names: Sequence[Named], missing: int, if_missing: str) -> list[str]:
    if missing and any(named.place.startswith("argument") for named in names):
        return [if_missing]
    if missing:
        return [f"relative paths are looked up from {Path.cwd()}"]
    return []


def _inspect_one(named: Named, lfn_depth: int) -> InputFile:
    path = _local_path(named.text)
    # Utf-8 is all that the contract can carry.
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _ProblemError("the name is not UTF-8; rename the file") from error
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise _ProblemError("is a directory; name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise _ProblemError("is no regular file")
    if not os.access(path, os.R_OK):
        raise _ProblemError("may not be read (permissions)")
    return InputFile(
        place=named.place,
        path=path,
        lfn="/".join(path.parts[1:][-lfn_depth:]),
        size_bytes=status.st_size,
        modify_time_ns=status.st_mtime_ns if _FIRST_NS <= status.st_mtime_ns < _END_NS else None,
        inode=status.st_ino,
    )


def _take_remote(
    named: Named, found: remote_inputs.RemoteFile | Exception, lfn_depth: int
) -> InputFile:
    if isinstance(found, TransferError) and found.fault is TransferFault.MISSING:
        raise FileNotFoundError(str(found))
    if isinstance(found, Exception):
        raise _ProblemError(str(found))
    _host, *parts = [part for part in found.url.partition("://")[2].split("/") if part]
    return InputFile(
        place=named.place,
        path=found.url,
        lfn="/".join(parts[-lfn_depth:]),
        size_bytes=found.size_bytes or 0,
        checksum=found.checksum,
        modify_time_ns=found.modify_time_ns,
    )


def _local_path(text: str) -> Path:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise _ProblemError("the name holds control characters; rename the file")
    if "://" not in text:
        # Not resolved: a link in a shared file system often has the name that nodes know.
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100
    url = urlsplit(text)
    if url.scheme != "file":
        raise _ProblemError(
            f"pilots cannot read {url.scheme}://; give a path, or a URL of {', '.join(TRANSPORTS)}"
        )
    if url.netloc not in {"", "localhost"} or url.query or url.fragment or not url.path:
        raise _ProblemError("a file URL looks like file:///path/of/the/file")
    return Path(unquote(url.path, errors="surrogateescape"))


def _check_distinct(files: Sequence[InputFile]) -> None:
    first: dict[str, InputFile] = {}
    doubles: list[str] = []
    same_path = True
    for file in files:
        other = first.setdefault(file.lfn, file)
        if other is file:
            continue
        if other.path == file.path:
            doubles.append(f"{other.place} and {file.place}: {file.path} is named twice")
        else:
            same_path = False
            doubles.append(
                f"{other.place} and {file.place}: {other.path} and {file.path} "
                f"would both be called {file.lfn}"
            )
    if doubles:
        raise usage_error(
            "DUPLICATE_LFN",
            f"{len(doubles)} input files have the logical name of another; nothing was sent",
            details=doubles,
            remedies=[
                "leave the repeats out"
                if same_path
                else "keep more of the path in the name: --lfn-depth 2 takes the directory as well"
            ],
        )
