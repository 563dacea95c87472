"""Compares the contracts with those that others have already: `buf breaking` against main; a break is a failure.

The one way to allow a break that is meant: say it in `proto/CHANGES.md`, for those who write clients. A branch (or
what is not committed yet, on main) that adds a line there may break contracts; what it breaks is shown.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHANGES = "proto/CHANGES.md"
# Breaks that are meant are shown for a last look; hundreds of lines nobody reads.
_SHOWN = 20


def _git(root: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def find_base(root: Path) -> str | None:
    """Return the commit to compare with; None without such history."""
    for reference in ("origin/main", "main"):
        commit = _git(root, "rev-parse", "--quiet", "--verify", f"{reference}^{{commit}}")
        if commit and _git(root, "ls-tree", "-r", "--name-only", commit, "--", "proto"):
            # Where the branch began: what main has learnt since is not of the branch's making.
            return _git(root, "merge-base", "HEAD", commit) or commit
    return None


def announced(root: Path, base: str) -> list[str]:
    """Return the lines that `proto/CHANGES.md` has and had not at the base."""
    page = root / CHANGES
    before = set((_git(root, "show", f"{base}:{CHANGES}") or "").splitlines())
    lines = page.read_text().splitlines() if page.exists() else []
    return [line for line in lines if line.strip() and line not in before]


def check(root: Path) -> tuple[int, str]:
    """Compare the contracts below `root`; return the exit status and what there is to say."""
    base = find_base(root)
    if base is None:
        return 0, ""
    done = subprocess.run(
        [Path(sys.executable).parent / "buf", "breaking", "--against", f".git#ref={base}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    found = (done.stdout + done.stderr).strip()
    if done.returncode == 0:
        return 0, ""
    if not announced(root, base):
        return (
            done.returncode,
            f"{found}\nIf that is meant, tell those who write clients in {CHANGES}.",
        )
    lines = found.splitlines()
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    said = [f"{CHANGES} has something new, so these breaks are meant:", *lines[:_SHOWN], *more]
    return 0, "\n".join(said)


def main(arguments: list[str]) -> int:
    """Run the comparison in this repository or another, print what it finds, and return the exit status."""
    status, text = check(Path(arguments[0]) if arguments else ROOT)
    if text:
        print(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
