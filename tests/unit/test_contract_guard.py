"""A contract cannot be broken by accident: not on a branch, not on main."""

import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).parents[2] / "tools" / "dev" / "check_breaking.py"
CHANGES = "proto/CHANGES.md"
CONTRACT = """syntax = "proto3";
package pandawn.tiny.v1;
message Cat {
  string name = 1;
  int32 lives = 2;
}
"""


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def check(root: Path) -> tuple[int, str]:
    """The exit status of the guard, and what it says."""
    done = subprocess.run(
        [sys.executable, GUARD, root], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def write(root: Path, text: str) -> None:
    (root / "proto" / "pandawn" / "tiny" / "v1" / "tiny.proto").write_text(text)


@pytest.fixture(params=["main", "branch"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "buf.yaml").write_text("version: v2\nmodules:\n  - path: proto\n")
    (tmp_path / "proto" / "pandawn" / "tiny" / "v1").mkdir(parents=True)
    (tmp_path / CHANGES).write_text("# Changes\n\n- Cats have names.\n")
    write(tmp_path, CONTRACT)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    if request.param == "branch":
        git(tmp_path, "switch", "--quiet", "--create=branch")
    return tmp_path


def test_an_unchanged_contract_passes(repository: Path) -> None:
    assert check(repository) == (0, "")


def test_what_is_added_breaks_nothing(repository: Path) -> None:
    write(repository, CONTRACT + "message Dog {\n  string name = 1;\n}\n")
    assert check(repository) == (0, "")


def test_a_break_fails_and_says_how_to_allow_it(repository: Path) -> None:
    write(repository, CONTRACT.replace("int32 lives", "int64 lives"))
    status, text = check(repository)
    assert status != 0
    assert "lives" in text
    assert CHANGES in text


def test_a_break_that_clients_are_told_of_passes_and_is_shown(repository: Path) -> None:
    write(repository, CONTRACT.replace("int32 lives", "int64 lives"))
    with (repository / CHANGES).open("a") as page:
        page.write("- Lives are 64-bit.\n")
    status, text = check(repository)
    assert status == 0
    assert "lives" in text


def test_what_an_earlier_change_announced_allows_no_later_break(repository: Path) -> None:
    write(repository, CONTRACT.replace("  int32 lives = 2;\n", ""))
    # Taking a line away, or moving it, announces nothing.
    (repository / CHANGES).write_text("- Cats have names.\n\n# Changes\n")
    assert check(repository)[0] != 0
