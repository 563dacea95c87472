"""docs/client-library.md: its program does what it says on a real server, and its tables are the policy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

import pandawn_client
from pandawn_client import policy
from tests.fixtures.pilots import StartPilot
from tests.fixtures.tier3 import Tier3

PAGE = (Path(__file__).parents[2] / "docs" / "client-library.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python example\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rows(title: str) -> list[list[str]]:
    """The cells of the table whose first title this is."""
    table = PAGE[PAGE.index(f"| {title} |") :].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]
    ]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_program_submits_follows_and_lists(
    program: Path, tier3: Tier3, start_pilot: StartPilot
) -> None:
    start_pilot(tier3, node="wn-a", max_jobs=2)
    done = run(program, tier3.server.address, tier3.queue, "sh", "-c", "hostname; date")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("JOB_FINISHED") for line in lines) == 3
    ended = [line for line in lines if line.startswith("job ")]
    assert len(ended) == 3
    assert all(line.endswith("JOB_STATE_FINISHED on wn-a") for line in ended)


def test_the_program_says_why_it_was_refused(program: Path, tier3: Tier3) -> None:
    done = run(program, tier3.server.address, "NOWHERE", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("QUEUE_NOT_FOUND: ")


def test_the_table_of_statuses_is_the_policy() -> None:
    said = {status.strip("`"): passes for status, passes, _ in rows("status")}
    rest = said.pop("all others")
    for code in grpc.StatusCode:
        expected = said.get(code.name, rest)
        assert policy.passes(code, retry_after=1.0) is (expected != "no"), code
        assert policy.passes(code, retry_after=None) is (expected in {"yes", "with a session"}), (
            code
        )


def test_the_table_of_callers_is_the_policy() -> None:
    for who, patience, pause in rows("who"):
        named: policy.Patience = getattr(policy, re.findall(r"`([A-Z]+)`", who)[0])
        expected = None if patience.startswith("never") else float(patience.removesuffix(" s"))
        assert (named.seconds, named.longest_pause) == (expected, float(pause.removesuffix(" s")))


def test_every_name_of_the_page_is_there() -> None:
    for name in re.findall(
        r"`(?:pandawn_client\.)?([A-Za-z_]+)`", "".join(map(" ".join, rows("for")))
    ):
        public = hasattr(pandawn_client, name) or hasattr(pandawn_client.Client, name)
        assert public or name in {*STUBS, *vars(ERROR)}, name


STUBS = ("broker", "catalog", "monitor", "queues")
ERROR = pandawn_client.CallError(
    grpc.StatusCode.UNKNOWN, "UNKNOWN", "", transient=False, retry_after=None
)
