"""docs/faults.md shows the table that the server goes by, and each row of what happens names tests that are there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pandawn_pilot import errors
from pandawn_pilot.errors import Fault
from pandawn_server.domain.leases.faults import FAULTS

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
HAPPENS = TEXT.partition("## What happens")[2]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
ROWS = [
    line
    for line in HAPPENS.splitlines()
    if line.startswith("| ") and not line.startswith(("| fault", "| ---"))
]


def test_the_page_shows_the_table_of_the_server() -> None:
    check = [sys.executable, str(REPOSITORY / "tools" / "dev" / "fault_table.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_reason_of_the_pilot_is_in_the_table() -> None:
    said = {fault.reason for fault in vars(errors).values() if isinstance(fault, Fault)}
    assert said - FAULTS.keys() == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_a_fault_names_its_tests(row: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", row)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    functions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions
