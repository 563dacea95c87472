"""What is started for a job: arguments, program, environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.payload.command import (
    find_program,
    inputs_variable,
    payload_environment,
    substitute_inputs,
)


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
    assert failure.value.fault.reason == "PROGRAM_NOT_FOUND"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        # Another node may have it.
        ("/opt/site/bin/analyse", "PROGRAM_NOT_FOUND"),
        ("env/bin/python", "PROGRAM_NOT_FOUND"),
        # None will have it.
        ("./analyse", "PAYLOAD_NOT_FOUND"),
        ("sub/analyse", "PAYLOAD_NOT_FOUND"),
    ],
)
def test_what_the_node_lacks_is_told_apart_from_what_the_user_forgot(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to("/opt/site/bin/python3")
    with pytest.raises(JobFailedError) as failure:
        find_program(name, "/bin", tmp_path)
    assert failure.value.fault.reason == reason


def test_a_program_of_the_node_that_may_not_be_executed_is_not_the_users(tmp_path: Path) -> None:
    make_script(tmp_path / "bin/tool", 0o644)
    with pytest.raises(JobFailedError) as failure:
        find_program("tool", str(tmp_path / "bin"), tmp_path / "work")
    assert failure.value.fault.reason == "PROGRAM_NOT_EXECUTABLE"


def test_a_file_that_may_not_be_executed_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    make_script(tmp_path / "tool", 0o644)
    with pytest.raises(JobFailedError) as failure:
        find_program("./tool", "", tmp_path)
    assert failure.value.fault.reason == "PAYLOAD_NOT_EXECUTABLE"


SLOT = {
    "PATH": "/opt/pilot/venv/bin:/usr/bin:/bin",
    "USER": "ann",
    "LANG": "C.UTF-8",
    "SLURM_JOB_ID": "17",
    "_CONDOR_SCRATCH_DIR": "/scratch",
    "ATLAS_LOCAL_ROOT_BASE": "/cvmfs/atlas",
    "OMP_NUM_THREADS": "2",
    "http_proxy": "http://squid:3128",
    "X509_CERT_DIR": "/etc/grid-security/certificates",
}


def environment_of(
    tmp_path: Path,
    inherited: dict[str, str],
    of_job: dict[str, str] | None = None,
    of_queue: dict[str, str] | None = None,
) -> dict[str, str]:
    about = {"PANDAWN_JOB_ID": "17"}
    return payload_environment(
        inherited, of_job or {}, about, tmp_path, tmp_path / "t", None, of_queue or {}
    )


def test_a_payload_finds_what_the_batch_job_gives_and_what_its_job_says(tmp_path: Path) -> None:
    inherited = {**SLOT, "HOME": "/root", "PANDAWN_TOKEN": "s", "BEARER_TOKEN": "s"}
    assert environment_of(tmp_path, inherited, {"LANG": "de", "PANDAWN_JOB_ID": "0"}) == {
        **SLOT,
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "t"),
        "PWD": str(tmp_path),
        "LOGNAME": "ann",
        "SHELL": "/bin/sh",
        "LANG": "de",
        "PANDAWN_JOB_ID": "17",
    }


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PYTHONPATH",
            "PYTHONHOME",
            "PYTHONSTARTUP",
            "LD_LIBRARY_PATH",
            "LD_PRELOAD",
            "VIRTUAL_ENV",
        ),
        *(
            "CONDA_PREFIX",
            "PERL5LIB",
            "PERL5OPT",
            "RUBYLIB",
            "NODE_PATH",
            "CLASSPATH",
            "R_LIBS_USER",
        ),
        *("NOTIFY_SOCKET", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "XAUTHORITY", "STATE_DIRECTORY"),
        *("PMI_RANK", "OMPI_COMM_WORLD_RANK", "TMP", "TEMP", "OLDPWD", "XDG_CACHE_HOME", "_"),
    ],
)
def test_what_is_the_pilots_own_is_not_for_its_payloads_unless_somebody_says_so(
    tmp_path: Path, name: str
) -> None:
    assert name not in environment_of(tmp_path, {**SLOT, name: "/opt/pilot/lib"})
    said = environment_of(tmp_path, SLOT, of_queue={name: "/opt/site/lib"})
    assert said[name] == "/opt/site/lib"
    said = environment_of(tmp_path, SLOT, {name: "user"}, {name: "/opt/site/lib"})
    assert said[name] == "user"


def test_programs_of_the_pilots_virtual_environment_are_not_in_the_payloads_path(
    tmp_path: Path,
) -> None:
    inherited = {**SLOT, "VIRTUAL_ENV": "/opt/pilot/venv"}
    assert environment_of(tmp_path, inherited)["PATH"] == "/usr/bin:/bin"
    started_from_it = {"PATH": f"{sys.prefix}/bin:/usr/bin"}
    expected = "/usr/bin" if sys.prefix != sys.base_prefix else started_from_it["PATH"]
    assert environment_of(tmp_path, started_from_it)["PATH"] == expected


def test_a_batch_job_without_an_environment_gives_a_payload_a_usable_one(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, {})
    assert environment["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert environment["LANG"] == "C.UTF-8"
    assert environment["USER"] == environment["LOGNAME"] != ""


def test_the_names_of_the_inputs_are_a_variable_only_while_it_can_hold_them() -> None:
    assert inputs_variable(["a", "b"]) == {"PANDAWN_INPUTS": "a,b"}
    assert inputs_variable([]) == {"PANDAWN_INPUTS": ""}
    assert inputs_variable(["x" * 100] * 1500) == {}
    assert inputs_variable(["é" * 40_000]) == {}
