"""Compares the contracts with those on main: runs `buf breaking`, and fails if it finds a break.

To allow an intended break, describe it in `proto/CHANGES.md` for authors of clients. A branch (or uncommitted work
on main) that adds a line there may break contracts; the breaks are shown.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHANGES = "proto/CHANGES.md"
# Intended breaks are shown for a last check, but nobody reads hundreds of lines.
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
            # Where the branch started, because later changes on main are not the branch's.
            return _git(root, "merge-base", "HEAD", commit) or commit
    return None


def announced(root: Path, base: str) -> list[str]:
    """Return the lines that were added to `proto/CHANGES.md` since the base."""
    page = root / CHANGES
    before = set((_git(root, "show", f"{base}:{CHANGES}") or "").splitlines())
    lines = page.read_text().splitlines() if page.exists() else []
    return [line for line in lines if line.strip() and line not in before]


def check(root: Path) -> tuple[int, str]:
    """Compare the contracts below `root`; return the exit status and the text to print."""
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
            f"{found}\nIf these breaks are intended, describe them for authors of clients in {CHANGES}.",
        )
    lines = found.splitlines()
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    shown = [f"{CHANGES} has new lines, so these breaks are allowed:", *lines[:_SHOWN], *more]
    return 0, "\n".join(shown)


def main(arguments: list[str]) -> int:
    """Run the comparison in this repository or another, print what it finds, and return the exit status."""
    status, text = check(Path(arguments[0]) if arguments else ROOT)
    if text:
        print(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
