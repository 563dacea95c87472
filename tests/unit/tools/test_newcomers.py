"""What a newcomer meets: empty variables, wrong words, help, and advice that fits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from pandawn_tools.cli import main
from pandawn_tools.cli.plain import LazyCommand
from tests.fixtures.command import RunCli
from tests.fixtures.ports import LOOPBACK, free_port

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("jobs", "--user", ""), "--user"),
        (("jobs", "--queue", ""), "--queue"),
        (("kill", "--task", ""), "--task"),
        (("tasks", ""), "TASK"),
        (("nodes", "--site", ""), "--site"),
        (("queues", "show", ""), "QUEUE"),
        (("submit", "--queue", "", "--jobs", "1", "--", "true"), "--queue"),
        # A path that is empty would be the current directory, and all of that the code.
        (("submit", "--sandbox", "", "--jobs", "1", "--", "true"), "--sandbox"),
        (("--server", "", "tasks"), "--server"),
    ],
)
def test_a_variable_that_was_not_set_is_no_value(
    run_cli: RunCli, arguments: tuple[str, ...], named: str
) -> None:
    said = run_cli(*arguments)
    assert said.status == 2
    assert named in said.err
    assert "it is empty" in said.err


def test_what_the_command_of_a_task_gets_may_be_empty(run_cli: RunCli) -> None:
    said = run_cli(
        *("--server", f"{LOOPBACK}:{free_port()}", "submit", "--jobs", "1", "--", "echo", "")
    )
    assert said.status == 4, said.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tasks", "abc"), "'abc' is not a whole number"),
        (("job", "1.5"), "'1.5' is not a whole number"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash'"),
        (("queues", "rollback", "0"), "0 is less than 1"),
    ],
)
def test_a_wrong_word_is_named_and_said_in_plain_words(
    run_cli: RunCli, arguments: tuple[str, ...], sentence: str
) -> None:
    said = run_cli(*arguments)
    assert said.status == 2
    assert sentence in said.err


@pytest.mark.parametrize("command", ["submit", "kill", "nodes", "queues"])
def test_help_speaks_of_what_is_typed_and_not_of_types(run_cli: RunCli, command: str) -> None:
    said = run_cli(command, "--help")
    assert "<bool>" not in said.out
    assert "<list" not in said.out


def test_paragraphs_of_help_are_broken_by_the_terminal_alone(run_cli: RunCli) -> None:
    said = run_cli("login", "--help", COLUMNS="300")
    assert "if something is piped in, from $BEARER_TOKEN" in said.out
    # Examples keep their lines.
    assert "--files-per-job 5 \\" in run_cli("submit", "--help", COLUMNS="300").out


def test_a_parameter_that_nobody_knows_is_guessed_at_and_they_can_be_listed(
    run_cli: RunCli,
) -> None:
    said = run_cli("queues", "set", "Q", "core=8")
    assert said.status == 2
    assert "there is no such parameter; did you mean cores?" in said.err
    assert "pandawn queues show QUEUE --origin" in said.err


def test_a_file_that_is_not_here_is_told_to_the_catalog_by_its_size(run_cli: RunCli) -> None:
    said = run_cli("cache", "add", "wn1", "far.root")
    assert said.status == 2
    assert "--lfn NAME=SIZE" in said.err
    assert "command to run" not in said.err


def test_a_configuration_in_somebody_else_s_home_is_not_called_bad_toml(
    run_cli: RunCli, tmp_path: Path
) -> None:
    # A directory in the file's place: like permissions, nothing that other TOML would mend.
    (tmp_path / "config" / "pandawn" / "config.toml").mkdir(parents=True)
    said = run_cli("tasks")
    assert said.status == 2
    assert "Is a directory" in said.err
    assert "TOML" not in said.err


def test_a_name_that_no_machine_has_is_said_so(run_cli: RunCli) -> None:
    said = run_cli("--server", "no-such-host.invalid", "tasks")
    assert said.status == 4
    assert "the server at no-such-host.invalid:25443 cannot be reached" in said.err
    assert "field:hostname" not in said.err or "Timeout" in said.err


def every_command(
    command: TyperCommand | TyperGroup, path: str = "pandawn"
) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    if isinstance(command, LazyCommand):
        command = command.load()
    yield path, command
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            assert isinstance(below, TyperCommand | TyperGroup)
            yield from every_command(below, f"{path} {name}")


def test_each_option_has_help_that_is_a_sentence() -> None:
    app = typer.main.get_command(main.app)
    assert isinstance(app, TyperGroup)
    wrong = [
        f"{path} {parameter.name}: {parameter.help}"
        for path, command in every_command(app)
        for parameter in command.params
        if isinstance(parameter, TyperOption | TyperArgument)
        and not (parameter.help or "").endswith((".", ")"))
    ]
    assert wrong == []
