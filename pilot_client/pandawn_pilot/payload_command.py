"""What exactly is started for a job: arguments, program and environment."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pandawn_pilot.accounts import Account
from pandawn_pilot.errors import (
    PAYLOAD_NOT_EXECUTABLE,
    PAYLOAD_NOT_FOUND,
    JobFailedError,
)

INPUT_NAMES = "%IN"
# The pilot's own settings, and places and contents of credentials: none of the payload's business.
# docs/pilot.md lists them.
_HIDDEN = re.compile(
    r"PANDAWN_|GRPC_|BEARER_TOKEN|X509_|SSH_|GPG_|KRB5|_CONDOR_CREDS|_?SCITOKENS?|AWS_|GOOGLE_|OS_|KUBE"
    r"|XDG_RUNTIME_DIR$|NETRC$|PGPASS|.*(TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE_KEY|API_KEY|PROXY_FILE)",
    re.IGNORECASE,
)
# Directories that all may read, by which a payload knows the servers that it speaks to.
_SHOWN = frozenset({"X509_CERT_DIR", "X509_VOMS_DIR", "X509_VOMSES"})


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

    Raises JobFailedError: PAYLOAD_NOT_FOUND or PAYLOAD_NOT_EXECUTABLE.
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
    if present:
        raise JobFailedError(
            PAYLOAD_NOT_EXECUTABLE,
            f"the command {name!r} is a file that may not be executed ({present[0]}); chmod +x it, "
            "or name its interpreter in the command",
        )
    raise JobFailedError(
        PAYLOAD_NOT_FOUND,
        f"the command {name!r} is neither in the node's PATH nor in the work directory",
    )


def payload_environment(
    inherited: Mapping[str, str],
    of_job: Mapping[str, str],
    about_job: Mapping[str, str],
    work_dir: Path,
    tmp_dir: Path,
    account: Account | None = None,
    of_queue: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The environment of a payload: the pilot's without secrets, the queue's, the user's, the job's."""
    environment = clean_environment(inherited)
    if account is not None:
        environment.update({"USER": account.name, "LOGNAME": account.name})
        # A shell takes what it may not look at for what it may not execute.
        environment["PATH"] = _passable_path(environment.get("PATH", ""), account)
    environment.update(of_queue)
    environment.update({"HOME": str(work_dir), "TMPDIR": str(tmp_dir), "PWD": str(work_dir)})
    environment.update(of_job)
    environment.update(about_job)
    return environment


def clean_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """An environment without the pilot's settings and whatever may be or lead to a credential."""
    return {
        name: value
        for name, value in inherited.items()
        if name in _SHOWN or not _HIDDEN.match(name)
    }


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
