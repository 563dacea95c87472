"""What exactly is started for a job: arguments, program and environment."""

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
# Where a batch job has no PATH at all.
_USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"
# The kernel takes 128 KiB in one word; what is longer than this is in PANDAWN_INPUTS_FILE only.
MAX_INPUTS_BYTES = 64 * 1024
# docs/pilot.md lists all of these, and says why.
# The pilot's own settings, and places and contents of credentials: none of the payload's business.
_SECRET = re.compile(
    r"PANDAWN_|GRPC_|BEARER_TOKEN|X509_|SSH_|GPG_|KRB5|_CONDOR_CREDS|_?SCITOKENS?|AWS_|GOOGLE_|OS_|KUBE"
    r"|XDG_RUNTIME_DIR$|XAUTHORITY$|DBUS_|NETRC$|PGPASS"
    r"|.*(TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE_KEY|API_KEY|PROXY_FILE)",
    re.IGNORECASE,
)
# What the pilot itself was started with or by, and what would make the payload another program than
# its user tried: search paths of loaders and interpreters, service managers, ranks of MPI programs,
# desktops, and places in the home of the pilot's account.
_PILOTS_OWN = re.compile(
    r"LD_|GCONV_PATH$|GLIBC_|MALLOC_|PYTHON|VIRTUAL_ENV|CONDA_|_CE_|PERL|RUBY|GEM_|BUNDLE_|NODE_|CLASSPATH$"
    r"|JAVA_TOOL_OPTIONS$|_JAVA_OPTIONS$|R_LIBS|LUA_|TCLLIBPATH$|GUILE_|ROOTSYS$"
    r"|NOTIFY_SOCKET$|LISTEN_|WATCHDOG_|INVOCATION_ID$|JOURNAL_STREAM$|SYSTEMD_|MAINPID$|MANAGERPID$"
    r"|(RUNTIME|STATE|CACHE|LOGS|CONFIGURATION)_DIRECTORY$"
    r"|PMI_|PMIX_|PMI2_|OMPI_|PRTE_|MPIR_|HYDRA_|HYDI_|MPIEXEC_"
    r"|DISPLAY$|WAYLAND_|DESKTOP_|SUDO_|XDG_(CACHE|CONFIG|DATA|STATE)_HOME$|XDG_SESSION|XDG_SEAT|XDG_VTNR"
    r"|TMP$|TEMP$|TMPDIR$|TEMPDIR$|OLDPWD$|PWD$|SHLVL$|_$|HISTFILE$|MAIL$|LC_CTYPE_COERCED$"
)
# Directories that all may read, by which a payload knows the servers that it speaks to.
_SHOWN = frozenset({"X509_CERT_DIR", "X509_VOMS_DIR", "X509_VOMSES"})
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")


def substitute_inputs(command: Sequence[str], input_names: Sequence[str]) -> list[str]:
    """Puts the names of the input files in the place of `%IN`, as `JobSpec.command` says."""
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

    For an account a program counts as missing from a directory that the account may not enter.

    Raises JobFailedError: PAYLOAD_NOT_FOUND or PAYLOAD_NOT_EXECUTABLE for what must be in the user's
    code, PROGRAM_NOT_FOUND or PROGRAM_NOT_EXECUTABLE for what the node might have had.
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
    # By its mode it is a program: on a disk that is mounted noexec access says no of any. The kernel will say so.
    for candidate in present:
        if candidate.stat().st_mode & 0o111 and is_noexec(candidate):
            return str(candidate)
    if present:
        ours = present[0].is_relative_to(work_dir)
        raise JobFailedError(
            PAYLOAD_NOT_EXECUTABLE if ours else PROGRAM_NOT_EXECUTABLE,
            f"the command {name!r} is a file that may not be executed ({present[0]}); chmod +x it, "
            "or name its interpreter in the command",
        )
    if "/" in name:
        # A link in the user's code may lead to what another node has.
        ours = candidates[0].is_relative_to(work_dir) and not candidates[0].is_symlink()
        raise JobFailedError(
            PAYLOAD_NOT_FOUND if ours else PROGRAM_NOT_FOUND,
            f"the command {name!r} is not there"
            + (": it is not in the task's code" if ours else " on this node"),
        )
    raise JobFailedError(
        PROGRAM_NOT_FOUND,
        f"the command {name!r} is neither in this node's PATH nor in the work directory",
    )


def is_noexec(path: Path) -> bool:
    """Whether nothing can be executed from the file system that `path` lies on. Raises OSError."""
    return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)


def inputs_variable(names: Sequence[str]) -> dict[str, str]:
    """PANDAWN_INPUTS, as long as a variable can hold it."""
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
    """The environment of a payload; docs/pilot.md has it as a table.

    The batch job's without secrets and without what is the pilot's own, the queue's, the user's, the
    job's.
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
        # A shell takes what it may not look at for what it may not execute.
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
    """An environment without the pilot's settings and whatever may be or lead to a credential."""
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
    """A PATH without the programs of the virtual environment that the pilot is part of."""
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
    """Whether all directories on the way to a program let the account pass, by their modes."""
    ways = {*program.absolute().parents, *program.resolve().parents}
    # The account's own: given to it when its payload starts.
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
