"""What is started for a job: arguments, program, environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.payload_command import find_program, payload_environment, substitute_inputs


@pytest.mark.parametrize(
    ("command", "inputs", "expected"),
    [
        (["run", "%IN"], ["a", "b"], ["run", "a", "b"]),
        (["run", "--in=%IN"], ["a", "b"], ["run", "--in=a,b"]),
        (["run", "%IN", "-o", "x%INy"], ["a"], ["run", "a", "-o", "xay"]),
        (["run", "%IN", "%IN"], ["a", "b"], ["run", "a", "b", "a", "b"]),
        (["run", "%IN"], [], ["run"]),
        (["run", "in=%IN"], [], ["run", "in="]),
        (["run"], ["a"], ["run"]),
        (["%IN"], ["with space", "%IN"], ["with space", "%IN"]),
    ],
)
def test_in_becomes_the_names_of_the_inputs(
    command: list[str], inputs: list[str], expected: list[str]
) -> None:
    assert substitute_inputs(command, inputs) == expected


def make_script(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_a_program_is_looked_for_in_the_path_then_in_the_work_directory(tmp_path: Path) -> None:
    ours = make_script(tmp_path / "work/tool")
    assert find_program("tool", "/nowhere", tmp_path / "work") == str(ours)
    theirs = make_script(tmp_path / "bin/tool")
    assert find_program("tool", str(tmp_path / "bin"), tmp_path / "work") == str(theirs)


def test_a_name_with_a_slash_is_relative_to_the_work_directory(tmp_path: Path) -> None:
    script = make_script(tmp_path / "work/sub/tool")
    assert find_program("sub/tool", "", tmp_path / "work") == str(script)
    assert find_program("./sub/tool", "", tmp_path / "work") == str(script)
    assert find_program("/bin/sh", "", tmp_path / "work") == "/bin/sh"


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="'analyse' is neither in") as failure:
        find_program("analyse", "/bin", tmp_path)
    assert failure.value.fault.reason == "PAYLOAD_NOT_FOUND"


def test_a_file_that_may_not_be_executed_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    make_script(tmp_path / "tool", 0o644)
    with pytest.raises(JobFailedError) as failure:
        find_program("./tool", "", tmp_path)
    assert failure.value.fault.reason == "PAYLOAD_NOT_EXECUTABLE"


def test_the_environment_has_the_jobs_values_and_none_of_the_pilots_secrets(
    tmp_path: Path,
) -> None:
    inherited = {
        "PATH": "/bin",
        "HOME": "/root",
        "PANDAWN_TOKEN": "secret",
        "BEARER_TOKEN": "secret",
        "X509_USER_PROXY": "/secret",
        "LANG": "C",
    }
    environment = payload_environment(
        inherited,
        {"LANG": "de", "PANDAWN_JOB_ID": "0"},
        {"PANDAWN_JOB_ID": "17"},
        tmp_path,
        tmp_path / "t",
    )
    assert environment == {
        "PATH": "/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "t"),
        "PWD": str(tmp_path),
        "LANG": "de",
        "PANDAWN_JOB_ID": "17",
    }
