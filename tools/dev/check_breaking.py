"""Compares the contracts with those that others have already: `buf breaking` against main.

A clone compares with origin/main and a branch with main; both fail on a break. On main itself there
is only the last commit to compare with: a break there is told but is no failure, as it may be the
repair of that very commit.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _git(*arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def find_base() -> tuple[str, bool] | None:
    """Return the commit to compare with and whether a break fails; None without such history."""
    branch = _git("symbolic-ref", "--quiet", "--short", "HEAD")
    for reference, is_binding in (("origin/main", True), ("main", branch != "main")):
        commit = _git("rev-parse", "--quiet", "--verify", f"{reference}^{{commit}}")
        if commit and _git("ls-tree", "-r", "--name-only", commit, "--", "proto"):
            # Where the branch began: what main has learnt since is not of the branch's making.
            return _git("merge-base", "HEAD", commit) or commit, is_binding
    return None


def main() -> int:
    """Run the comparison and return the exit status."""
    base = find_base()
    if base is None:
        return 0
    commit, is_binding = base
    done = subprocess.run(
        [Path(sys.executable).parent / "buf", "breaking", "--against", f".git#ref={commit}"],
        cwd=ROOT,
        check=False,
    )
    return done.returncode if is_binding else 0


if __name__ == "__main__":
    sys.exit(main())
