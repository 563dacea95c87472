from dataclasses import replace
from pathlib import Path

import pytest

from pandawn_client.errors import Violation
from pandawn_tools.cli import options, taskspec
from pandawn_tools.cli.errors import CliError, ExitStatus, with_places
from pandawn_tools.cli.inputs import InputFile


def make_input(**overrides: str) -> InputFile:
    values = {"place": "list.dat:3", "lfn": "f.root", "checksum": ""} | overrides
    return InputFile(
        place=values["place"],
        path=Path("/data/f.root"),
        lfn=values["lfn"],
        size_bytes=7,
        checksum=values["checksum"],
    )


def test_what_is_known_of_a_source_goes_with_an_input() -> None:
    known = replace(make_input(), modify_time_ns=1_700_000_000_000_000_001, inode=5)
    (first, second) = taskspec.Plan(
        user="ann", dataset="d", command=["c"], inputs=[known, make_input()]
    ).input_messages()
    assert first.modify_time.ToNanoseconds() == 1_700_000_000_000_000_001
    assert first.inode == 5
    assert not second.HasField("modify_time")


@pytest.mark.parametrize(
    ("command", "files_per_job", "is_told"),
    [
        (["sh", "-c", "cat %IN > out"], 2, True),
        (["sh", "-c", "cat %IN > out"], 1, False),
        (["sh", "-c", 'cat "$@"', "sh", "%IN"], 2, False),
        (["ana", "--files=%IN"], 2, False),
    ],
)
def test_inputs_inside_a_shell_s_word_are_told_to_be_joined(
    command: list[str], files_per_job: int, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    taskspec.warn_of_joined_inputs(command, files_per_job)
    assert ("with commas" in capsys.readouterr().err) is is_told


def make_script(root: Path, name: str, content: str = "", mode: int = 0o644) -> Path:
    path = root / name
    path.write_text(content)
    path.chmod(mode)
    return path


def test_the_message_says_what_the_plan_says() -> None:
    plan = taskspec.Plan(
        user="ann",
        dataset="d",
        command=["c", "%IN"],
        inputs=[make_input(checksum="adler32:00000001")],
        files_per_job=2,
        resources=taskspec.Resources(memory_bytes=5, cores=2),
        environment={"A": "1"},
        labels={"l": "1"},
    )
    spec = plan.message("abc")
    assert (spec.user, spec.dataset, list(spec.command), spec.sandbox_id) == (
        "ann",
        "d",
        ["c", "%IN"],
        "abc",
    )
    assert (dict(spec.labels), len(spec.inputs)) == ({"l": "1"}, 0)
    (read,) = plan.input_messages()
    assert read.url == "file:///data/f.root"
    assert read.file.checksum == "adler32:00000001"
    assert spec.requirements.memory_bytes == 5
    assert not spec.requirements.HasField("disk_bytes")
    assert not spec.requirements.HasField("wall_time")


def test_an_executable_script_with_an_interpreter_runs_itself(tmp_path: Path) -> None:
    script = make_script(tmp_path, "toy", "#!/bin/sh\n", 0o755)
    assert taskspec.script_command(script, [], has_inputs=False) == ["./toy"]


@pytest.mark.parametrize(("name", "interpreter"), [("a.py", "python3"), ("a.sh", "sh")])
def test_another_script_runs_by_its_name(tmp_path: Path, name: str, interpreter: str) -> None:
    script = make_script(tmp_path, name)
    assert taskspec.script_command(script, [], has_inputs=False) == [interpreter, name]


def test_a_script_gets_the_input_files_unless_it_gets_arguments(tmp_path: Path) -> None:
    script = make_script(tmp_path, "a.py")
    assert taskspec.script_command(script, [], has_inputs=True)[-1] == "%IN"
    given = taskspec.script_command(script, ["-x", "a,%IN"], has_inputs=True)
    assert given == ["python3", "a.py", "-x", "a,%IN"]


def test_a_script_that_nothing_can_run_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="how to run") as caught:
        taskspec.script_command(make_script(tmp_path, "toy", "#!/bin/sh\n"), [], has_inputs=False)
    assert any("chmod +x" in remedy for remedy in caught.value.remedies)


def test_a_quoted_command_is_told_how_to_be_written() -> None:
    with pytest.raises(CliError) as caught:
        taskspec.check_command(["cat a | wc"])
    assert any("sh -c 'cat a | wc'" in remedy for remedy in caught.value.remedies)


@pytest.mark.parametrize("pair", ["X", "=1"])
def test_an_environment_without_a_name_or_value_is_refused(pair: str) -> None:
    with pytest.raises(CliError, match="NAME=VALUE"):
        options.read_pairs("--env", [pair])


def test_the_value_of_an_environment_variable_may_hold_anything() -> None:
    assert options.read_pairs("--env", ["A=b=c", "B="]) == {"A": "b=c", "B": ""}


def test_two_fresh_datasets_differ() -> None:
    names = {taskspec.fresh_dataset(["python3", "my ana.py", "%IN"]) for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("my_ana.") for name in names)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("task.inputs[0].file.lfn", "list.dat:3 (/data/f.root) lfn"),
        ("task.inputs[0]", "list.dat:3 (/data/f.root)"),
        ("task.inputs[9].file.lfn", "the input files"),
        ("task.max_attempts", "--max-attempts"),
        ("task.requirements.memory_bytes", "--memory"),
        ("task.outputs[2]", "--output"),
        ("task.something_new", "task.something_new"),
    ],
)
def test_the_server_s_fields_become_the_user_s_words(field: str, said: str) -> None:
    assert taskspec.place_of(field, [make_input()]) == said


def test_a_refusal_keeps_all_but_its_places() -> None:
    refusal = CliError(
        ExitStatus.REFUSED,
        "INVALID_REQUEST",
        "no",
        details=["task.user: bad", "somebody answered"],
        violations=[Violation("task.user", "bad")],
    )
    said = with_places(refusal, lambda field: taskspec.place_of(field, []))
    assert said.details == ("--user: bad", "somebody answered")
    assert (said.status, said.reason, said.message) == (ExitStatus.REFUSED, "INVALID_REQUEST", "no")
