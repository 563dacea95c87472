"""The arguments, program and environment of a job's payload."""

from __future__ import annotations

import os
import pwd
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pandawn_pilot.errors import (
    PAYLOAD_NOT_EXECUTABLE,
    PAYLOAD_NOT_FOUND,
    PROGRAM_NOT_EXECUTABLE,
    PROGRAM_NOT_FOUND,
    JobFailedError,
)
from pandawn_transports.account import Account

INPUT_NAMES = "%IN"
# If the batch job has no PATH.
_USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"
# The kernel allows 128 KiB per variable; longer lists are in PANDAWN_INPUTS_FILE only.
MAX_INPUTS_BYTES = 64 * 1024
# docs/pilot.md lists all of these, with reasons.
# The pilot's settings, and paths and contents of credentials, which payloads must not see.
_SECRET = re.compile(
    r"PANDAWN_|GRPC_|BEARER_TOKEN|X509_|SSH_|GPG_|KRB5|_CONDOR_CREDS|_?SCITOKENS?|AWS_|GOOGLE_|OS_|KUBE"
    r"|XDG_RUNTIME_DIR$|XAUTHORITY$|DBUS_|NETRC$|PGPASS"
    r"|.*(TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE_KEY|API_KEY|PROXY_FILE)",
    re.IGNORECASE,
)
# Variables of the pilot's own start, which would make the payload behave differently from its user's
# test: search paths of loaders and interpreters, service managers, ranks of MPI programs, desktops, and
# paths in the home of the pilot's account.
_PILOTS_OWN = re.compile(
    r"LD_|GCONV_PATH$|GLIBC_|MALLOC_|PYTHON|VIRTUAL_ENV|CONDA_|_CE_|PERL|RUBY|GEM_|BUNDLE_|NODE_|CLASSPATH$"
    r"|JAVA_TOOL_OPTIONS$|_JAVA_OPTIONS$|R_LIBS|LUA_|TCLLIBPATH$|GUILE_|ROOTSYS$"
    r"|NOTIFY_SOCKET$|LISTEN_|WATCHDOG_|INVOCATION_ID$|JOURNAL_STREAM$|SYSTEMD_|MAINPID$|MANAGERPID$"
    r"|(RUNTIME|STATE|CACHE|LOGS|CONFIGURATION)_DIRECTORY$"
    r"|PMI_|PMIX_|PMI2_|OMPI_|PRTE_|MPIR_|HYDRA_|HYDI_|MPIEXEC_"
    r"|DISPLAY$|WAYLAND_|DESKTOP_|SUDO_|XDG_(CACHE|CONFIG|DATA|STATE)_HOME$|XDG_SESSION|XDG_SEAT|XDG_VTNR"
    r"|TMP$|TEMP$|TMPDIR$|TEMPDIR$|OLDPWD$|PWD$|SHLVL$|_$|HISTFILE$|MAIL$|LC_CTYPE_COERCED$"
)
# Public directories that payloads need to verify servers.
_SHOWN = frozenset({"X509_CERT_DIR", "X509_VOMS_DIR", "X509_VOMSES"})
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")


def substitute_inputs(command: Sequence[str], input_names: Sequence[str]) -> list[str]:
    """Replaces `%IN` by the names of the input files, see `JobSpec.command`."""
    arguments: list[str] = []
    for argument in command:
        if argument == INPUT_NAMES:
            arguments.extend(input_names)
        else:
            arguments.append(argument.replace(INPUT_NAMES, ",".join(input_names)))
    return arguments


def find_program(
    name: str, search_path: str, work_dir: Path, account: Account | None = None
) -> str:
    """The path of the program that a shell in `work_dir` would start, looking there last.

    Ignores programs in directories that `account` cannot enter.

    Raises JobFailedError: PAYLOAD_NOT_FOUND or PAYLOAD_NOT_EXECUTABLE for a program of the sandbox,
    PROGRAM_NOT_FOUND or PROGRAM_NOT_EXECUTABLE for one of the node.
    """
    if "/" in name:
        candidates = [work_dir / name]
    else:
        directories = [part for part in search_path.split(os.pathsep) if part]
        candidates = [*(work_dir / part / name for part in directories), work_dir / name]
    present = [
        candidate
        for candidate in candidates
        if candidate.is_file() and (account is None or _may_reach(candidate, work_dir, account))
    ]
    for candidate in present:
        if os.access(candidate, os.X_OK):
            return str(candidate)
    # Executable by its mode: access() fails on a noexec disk, and exec will report that.
    for candidate in present:
        if candidate.stat().st_mode & 0o111 and is_noexec(candidate):
            return str(candidate)
    if present:
        ours = present[0].is_relative_to(work_dir)
        raise JobFailedError(
            PAYLOAD_NOT_EXECUTABLE if ours else PROGRAM_NOT_EXECUTABLE,
            f"the command {name!r} is a file without execute permission ({present[0]}); chmod +x it, "
            "or start it with its interpreter",
        )
    if "/" in name:
        # A link in the sandbox may point to a program that other nodes have.
        ours = candidates[0].is_relative_to(work_dir) and not candidates[0].is_symlink()
        raise JobFailedError(
            PAYLOAD_NOT_FOUND if ours else PROGRAM_NOT_FOUND,
            f"the command {name!r} does not exist"
            + (": it is not in the task's sandbox" if ours else " on this node"),
        )
    raise JobFailedError(
        PROGRAM_NOT_FOUND,
        f"the command {name!r} is neither in this node's PATH nor in the work directory",
    )


def is_noexec(path: Path) -> bool:
    """Whether the file system of `path` is mounted noexec. Raises OSError."""
    return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)


def inputs_variable(names: Sequence[str]) -> dict[str, str]:
    """PANDAWN_INPUTS; empty if the names are too long for a variable."""
    text = ",".join(names)
    return {"PANDAWN_INPUTS": text} if len(os.fsencode(text)) <= MAX_INPUTS_BYTES else {}


def payload_environment(
    inherited: Mapping[str, str],
    of_job: Mapping[str, str],
    about_job: Mapping[str, str],
    work_dir: Path,
    tmp_dir: Path,
    account: Account | None = None,
    of_queue: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The environment of a payload; docs/pilot.md has a table.

    Later ones win: the batch job's without secrets and the pilot's own variables, the queue's, the user's,
    the job's.
    """
    environment = {
        name: value
        for name, value in without_secrets(inherited).items()
        if not _PILOTS_OWN.match(name)
    }
    environment["PATH"] = _without_pilot(environment.get("PATH") or _USUAL_PATH, inherited)
    if account is None:
        user = environment.get("USER") or _own_name()
    else:
        user = account.name
        # A shell reports a directory that it cannot enter as "permission denied".
        environment["PATH"] = _passable_path(environment["PATH"], account)
    environment.update({"USER": user, "LOGNAME": user, "SHELL": "/bin/sh"})
    if not any(environment.get(name) for name in _LOCALE):
        environment["LANG"] = "C.UTF-8"
    environment.update(of_queue)
    environment.update({"HOME": str(work_dir), "TMPDIR": str(tmp_dir), "PWD": str(work_dir)})
    environment.update(of_job)
    environment.update(about_job)
    return environment


def without_secrets(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment without the pilot's settings, credentials, and paths to credentials."""
    return {
        name: value
        for name, value in inherited.items()
        if name in _SHOWN or not _SECRET.match(name)
    }


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _without_pilot(search_path: str, inherited: Mapping[str, str]) -> str:
    """PATH without the pilot's own virtual environment."""
    tops = {inherited.get(name, "") for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME")}
    if sys.prefix != sys.base_prefix:
        tops.add(sys.prefix)
    ours = {Path(top, "bin") for top in tops if top}
    return os.pathsep.join(
        part for part in search_path.split(os.pathsep) if part and Path(part) not in ours
    )


def _passable_path(search_path: str, account: Account) -> str:
    directories = [Path(part) for part in search_path.split(os.pathsep) if part]
    passable = [
        directory
        for directory in directories
        if all(
            _lets_pass(way, account)
            for way in [directory.absolute(), *directory.absolute().parents]
        )
    ]
    return os.pathsep.join(str(directory) for directory in passable)


def _may_reach(program: Path, work_dir: Path, account: Account) -> bool:
    """Whether the account can traverse all directories above a program, by their modes."""
    ways = {*program.absolute().parents, *program.resolve().parents}
    # These are given to the account when its payload starts.
    ours = {work_dir, *work_dir.parents}
    return all(_lets_pass(way, account) for way in ways if way not in ours)


def _lets_pass(directory: Path, account: Account) -> bool:
    try:
        status = directory.stat()
    except OSError:
        return False
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
