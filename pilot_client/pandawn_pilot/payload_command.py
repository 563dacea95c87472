"""What exactly is started for a job: arguments, program and environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pandawn_pilot.errors import (
    PAYLOAD_NOT_EXECUTABLE,
    PAYLOAD_NOT_FOUND,
    JobFailedError,
)

INPUT_NAMES = "%IN"
# The pilot's own settings and credentials: none of the payload's business.
_HIDDEN_PREFIXES = ("PANDAWN_", "GRPC_")
_HIDDEN_NAMES = frozenset(
    {"BEARER_TOKEN", "BEARER_TOKEN_FILE", "X509_USER_CERT", "X509_USER_KEY", "X509_USER_PROXY"}
)


def substitute_inputs(command: Sequence[str], input_names: Sequence[str]) -> list[str]:
    """Puts the names of the input files in the place of `%IN`, as `JobSpec.command` says."""
    arguments: list[str] = []
    for argument in command:
        if argument == INPUT_NAMES:
            arguments.extend(input_names)
        else:
            arguments.append(argument.replace(INPUT_NAMES, ",".join(input_names)))
    return arguments


def find_program(name: str, search_path: str, work_dir: Path) -> str:
    """The path of the program that a shell in `work_dir` would start, looking there last.

    Raises JobFailedError: PAYLOAD_NOT_FOUND or PAYLOAD_NOT_EXECUTABLE.
    """
    if "/" in name:
        candidates = [work_dir / name]
    else:
        directories = [part for part in search_path.split(os.pathsep) if part]
        candidates = [*(work_dir / part / name for part in directories), work_dir / name]
    present = [candidate for candidate in candidates if candidate.is_file()]
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
) -> dict[str, str]:
    """The environment of a payload: the pilot's without secrets, the user's, the job's."""
    environment = {
        name: value
        for name, value in inherited.items()
        if name not in _HIDDEN_NAMES and not name.startswith(_HIDDEN_PREFIXES)
    }
    environment.update({"HOME": str(work_dir), "TMPDIR": str(tmp_dir), "PWD": str(work_dir)})
    environment.update(of_job)
    environment.update(about_job)
    return environment
