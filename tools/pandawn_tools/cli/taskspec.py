"""Builds the task to submit, and finds the option that a field of the request came from."""

import getpass
import os
import re
import secrets
import shlex
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pandawn.broker.v1 import task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.inputs import InputFile
from pandawn_tools.cli.options import to_duration
from pandawn_tools.cli.render import note

# In a command, replaced by the names of a job's input files.
INPUT_MARK = "%IN"

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
_INPUT_FIELD = re.compile(r"(?:task\.)?inputs\[(?P<index>\d+)\](?:\.file)?\.?(?P<rest>.*)")
# Interpreter of a script without a `#!` line, by its suffix.
_INTERPRETERS = {".py": "python3", ".sh": "sh", ".bash": "bash"}

# Options by the field of the request that they set.
_OPTION_OF_FIELD = {
    "user": "--user",
    "dataset": "--dataset",
    "queue": "--queue",
    "site": "--site",
    "inputs": "the input files",
    "files_per_job": "--files-per-job",
    "labels": "--label",
    "job_count": "--jobs",
    "command": "the command",
    "outputs": "--output",
    "build_command": "--build-command",
    "sandbox_id": "--sandbox",
    "environment": "--env",
    "priority": "--priority",
    "max_attempts": "--max-attempts",
    "test": "--test",
    "requirements.memory_bytes": "--memory",
    "requirements.cores": "--cores",
    "requirements.disk_bytes": "--disk",
    "requirements.wall_time": "--wall-time",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What each run job needs; None: the default of the server."""

    memory_bytes: int | None = None
    cores: int | None = None
    disk_bytes: int | None = None
    wall_time: timedelta | None = None

    def message(self) -> types.Requirements:
        """Returns the protobuf message."""
        return types.Requirements(
            memory_bytes=self.memory_bytes,
            cores=self.cores,
            disk_bytes=self.disk_bytes,
            wall_time=None if self.wall_time is None else to_duration(self.wall_time),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A task to submit, without its sandbox."""

    user: str
    dataset: str
    command: Sequence[str]
    queue: str = ""
    site: str = ""
    inputs: Sequence[InputFile] = ()
    files_per_job: int = 1
    job_count: int = 0
    outputs: Sequence[str] = ()
    build: bool = False
    build_command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    priority: int = 0
    max_attempts: int = 0
    test: bool = False

    def input_messages(self) -> Iterator[task_pb2.TaskInput]:
        """Yields the inputs as protobuf messages."""
        return map(_input_message, self.inputs)

    def message(self, sandbox_id: str) -> task_pb2.TaskSpec:
        """Returns the protobuf message, with this sandbox and without the inputs."""
        return task_pb2.TaskSpec(
            user=self.user,
            dataset=self.dataset,
            queue=self.queue,
            site=self.site,
            files_per_job=self.files_per_job,
            job_count=self.job_count,
            command=self.command,
            outputs=self.outputs,
            build=self.build,
            build_command=self.build_command,
            sandbox_id=sandbox_id,
            environment=self.environment,
            labels=self.labels,
            requirements=self.resources.message(),
            priority=self.priority,
            max_attempts=self.max_attempts,
            test=self.test,
        )


def _input_message(file: InputFile) -> task_pb2.TaskInput:
    message = task_pb2.TaskInput(
        file=types.File(lfn=file.lfn, size_bytes=file.size_bytes, checksum=file.checksum),
        url=file.url,
        inode=file.inode,
    )
    if file.modify_time_ns is not None:
        message.modify_time.FromNanoseconds(file.modify_time_ns)
    return message


def login_name() -> str:
    """Returns the login name, in the characters that a user name may have."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # no entry in the user database, as in some containers
        name = f"uid{os.getuid()}"
    return _NOT_IN_NAMES.sub("_", name)[:64]


def fresh_dataset(command: Sequence[str]) -> str:
    """Returns an unused name for a dataset: the name of the payload, the time, and a random part."""
    stem = next((Path(word).stem for word in reversed(command) if Path(word).suffix), "")
    stem = _NOT_IN_NAMES.sub("_", stem or Path(command[0]).name).strip("._-") or "task"
    return f"{stem[:100]}.{time.strftime('%Y%m%d-%H%M%S')}.{secrets.token_hex(4)}"


def script_command(script: Path, arguments: Sequence[str], *, has_inputs: bool) -> list[str]:
    """Returns the command that runs a script from the sandbox.

    Without `arguments` the script gets the names of the input files.

    Raises:
        CliError: There is no such script, or it is unclear how to run it.
    """
    try:
        with script.open("rb") as file:
            has_interpreter = file.read(2) == b"#!"
        executable = bool(script.stat().st_mode & stat.S_IXUSR)
    except OSError as error:
        raise usage_error(
            "FILE_MISSING" if isinstance(error, FileNotFoundError) else "FILE_UNREADABLE",
            f"the script {script} cannot be read; nothing was sent",
            details=[error.strerror or str(error)],
        ) from error
    interpreter = _INTERPRETERS.get(script.suffix)
    if has_interpreter and executable:
        head = [f"./{script.name}"]
    elif interpreter is not None:
        head = [interpreter, script.name]
    else:
        raise usage_error(
            "SCRIPT_NOT_EXECUTABLE",
            f"it is unclear how to run {script}",
            details=[
                "it is not an executable file with a #! line, nor does its name end in .py or .sh"
            ],
            remedies=[f"add a #! line, and: chmod +x {shlex.quote(str(script))}"],
        )
    rest = list(arguments) or ([INPUT_MARK] if has_inputs else [])
    return [*head, *rest]


def check_command(command: Sequence[str]) -> None:
    """Raises CliError for a command that is a single word with blanks."""
    if len(command) == 1 and any(char.isspace() for char in command[0]):
        raise usage_error(
            "INVALID_COMMAND",
            f"the command is a single word with blanks: {command[0]}",
            details=["no shell on the node splits it into words"],
            remedies=[
                f"write it without quotes: -- {command[0]}",
                f"or, for pipes and redirections: -- sh -c {shlex.quote(command[0])}",
            ],
        )


def warn_of_joined_inputs(command: Sequence[str], files_per_job: int) -> None:
    """Warns of an input mark inside a word if jobs have several files.

    `sh -c "cat %IN"` works with one file per job. With two it looks for a file with a comma in its name.
    """
    if files_per_job < 2:
        return
    for word in command:
        if INPUT_MARK in word and any(char.isspace() for char in word):
            note(
                f"{INPUT_MARK} inside a word is replaced by the names with commas: a,b,c in {word!r}. "
                f"For one word per file: sh -c '... \"$@\" ...' sh {INPUT_MARK}"
            )
            return


def split_command(option: str, text: str) -> list[str]:
    """Splits a command in quotes as a shell would; raises CliError for quotes that do not close."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise usage_error("INVALID_OPTION", f"{option} {text}: {error}") from error


def place_of(path: str, inputs: Sequence[InputFile]) -> str:
    """Returns the option, or the line of the file list, that set a field of the request."""
    match = _INPUT_FIELD.fullmatch(path)
    if match and int(match["index"]) < len(inputs):
        file = inputs[int(match["index"])]
        return " ".join(filter(None, [file.place, f"({file.path})", match["rest"]]))
    bare = path.removeprefix("task.")
    return _OPTION_OF_FIELD.get(re.sub(r"\[.*", "", bare), path)
