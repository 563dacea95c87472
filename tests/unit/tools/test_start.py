"""What a command imports before it does anything: a command that is typed often must start at once.

Nothing here measures time. The packages that are named as heavy took most of the second that each
command once spent before its first word.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pandawn_tools.cli.commands import COMMANDS
from pandawn_tools.cli.helptext import first_paragraph
from pandawn_tools.cli.plain import LazyCommand, PlainGroup
from pandawn_tools.cli.queues import app as queues
from tests.fixtures.fake_broker import FakeBroker

_PATIENCE_S = 100.0
# Runs `pandawn` and writes the names of all modules to a file, however it ends.
_PROGRAM = """
import atexit, json, sys
from pathlib import Path
place = sys.argv.pop(1)
atexit.register(lambda: Path(place).write_text(json.dumps(sorted(sys.modules))))
from pandawn_tools.start import main
main()
"""

# A package stands for all that is in it.
HEAVY = (
    *("markdown_it", "pygments", "rich.markdown", "rich.syntax", "rich.traceback"),
    *("typer.rich_utils", "pydantic", "pydantic_core", "ruamel", "attr"),
    *("numpy", "matplotlib", "sqlalchemy", "alembic", "structlog", "opentelemetry"),
    *("pandawn_server", "pandawn_pilot", "pandawn_transports"),
    *("pandawn_tools.bench", "pandawn_tools.cric", "pandawn_tools.demo"),
    *("pandawn_tools.simulate"),
    *("google.rpc", "tarfile", "urllib.request"),
)
# What commands need that talk to no server.
TALK = ("grpc", "google.protobuf", "pandawn", "rich", "asyncio", "ssl")

_BROKER = ("broker", "common")
# A node of the monitor has its cache, which is the catalog's.
_MONITOR = (*_BROKER, "monitor", "filecatalog")
_NODES = ("common", "monitor", "filecatalog", "queueconfig")
_QUEUES = ("common", "queueconfig")
READING = {
    "tasks": _BROKER,
    "jobs": _BROKER,
    "job 7": _BROKER,
    "why 7": _BROKER,
    "wait 7": _BROKER,
    "whoami": _BROKER,
    "events --tail 3": _MONITOR,
    "audit": _MONITOR,
    "nodes": (*_NODES, "broker"),
    "nodes list": (*_NODES, "broker"),
    "nodes show n1": (*_NODES, "broker"),
    "pilots": (*_NODES, "broker"),
    "access show Q": _QUEUES,
    "access check anna Q": _QUEUES,
    "queues list": _QUEUES,
    "queues show Q": _QUEUES,
    "queues overrides": _QUEUES,
    "queues history": _QUEUES,
    "queues diff 1": _QUEUES,
    # The site of a node is looked up in the list of nodes.
    "cache list n1": _NODES,
    "cache locate f": _NODES,
    "cache coverage f --site S": _NODES,
    "cache pins": _NODES,
}
"""Commands that change nothing, and the packages of the contract that each may load."""

CHANGING = {"submit", "kill", "retry", "login", "logout"}
ON_THIS_MACHINE = {"completion", "demo", "bench", "simulate", "simulate-faults"}

OWN_WORK = ("--help", "--version", "nope", "queues --help", "completion bash", "demo --help")
SHELLS = (
    {"_PANDAWN_COMPLETE": "complete_bash", "COMP_WORDS": "pandawn ", "COMP_CWORD": "1"},
    {"_PANDAWN_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "pandawn "},
    {
        "_PANDAWN_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "pandawn ",
    },
)


def imported(place: Path, *arguments: str, **environment: str) -> set[str]:
    """Runs `pandawn` in a process of its own, and returns the modules that it imported."""
    found = place / "modules.json"
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, found, *arguments],
        env={"HOME": str(place), "PATH": os.environ["PATH"], **environment},
        cwd=place,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return set(json.loads(found.read_text()))


def of_packages(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    return {
        module
        for module in modules
        if any(module == package or module.startswith(f"{package}.") for package in packages)
    }


@pytest.mark.parametrize(("command", "services"), READING.items())
def test_a_command_that_reads_imports_nothing_heavy_and_only_contracts_that_it_needs(
    command: str, services: tuple[str, ...], tmp_path: Path, fake_broker: FakeBroker
) -> None:
    modules = imported(tmp_path, "--server", fake_broker.address, *command.split())
    # It came as far as its call.
    assert "grpc" in modules
    assert of_packages(modules, HEAVY) == set()
    loaded = {name.split(".")[1] for name in modules if name.startswith("pandawn.")}
    assert loaded <= set(services)


@pytest.mark.parametrize("command", ["tasks", "submit", "queues apply", "login"])
def test_the_help_of_a_command_imports_no_other_library_for_help(
    command: str, tmp_path: Path
) -> None:
    modules = imported(tmp_path, *command.split(), "--help")
    assert of_packages(modules, ("typer.rich_utils", "markdown_it", "pydantic")) == set()


@pytest.mark.parametrize("command", OWN_WORK)
def test_what_asks_no_server_imports_nothing_that_talks_to_one(
    command: str, tmp_path: Path
) -> None:
    modules = imported(tmp_path, *command.split())
    assert of_packages(modules, (*HEAVY, *TALK)) == set()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell["_PANDAWN_COMPLETE"])
def test_completion_imports_nothing_that_talks_to_a_server(
    shell: dict[str, str], tmp_path: Path
) -> None:
    modules = imported(tmp_path, **shell)
    assert of_packages(modules, (*HEAVY, *TALK)) == set()


def test_a_new_command_is_among_those_whose_imports_are_checked() -> None:
    reading = {line.split()[0] for line in READING}
    assert {command.name for command in COMMANDS} == reading | CHANGING | ON_THIS_MACHINE


def all_lazy() -> list[LazyCommand]:
    group = typer.main.get_command(queues)
    assert isinstance(group, PlainGroup)
    return [*COMMANDS, *group.lazy]


@pytest.mark.parametrize("command", all_lazy(), ids=lambda command: command.target)
def test_the_list_of_commands_says_what_the_help_of_each_says(command: LazyCommand) -> None:
    assert command.help == first_paragraph(command.load().help)
