"""Runs the command line in this process, as a shell would."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from pandawn_tools.cli import client
from pandawn_tools.cli.main import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


class RunCli(Protocol):
    """Runs `pandawn` with arguments."""

    def __call__(self, *arguments: str) -> Said:
        """Run it to its end."""
        ...


@pytest.fixture
def run_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> RunCli:
    """A function that runs `pandawn`, with no settings of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("PANDAWN_SERVER", raising=False)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["pandawn", *arguments])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets retries follow each other at once, and makes commands give up soon."""
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "PATIENCE_S", 0.5)
