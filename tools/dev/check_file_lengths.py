"""Fails if a hand-written source file is too long."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A longer file contains two things that should have separate names.
MAX_LINES = 400

_SUFFIXES = {".css", ".html", ".js", ".proto", ".py", ".sh"}
_NOT_HAND_WRITTEN = ("generated/",)

# A table for reference: the parameters of a queue are one flat message, with six lines each.
_TABLES = ("proto/pandawn/queueconfig/v1/parameters.proto",)


def long_files() -> list[tuple[str, int]]:
    """Return path and length of each source file that is too long, longest first."""
    # New files count even before they are added to git; ignored files never do.
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lengths = [
        (name, len((ROOT / name).read_bytes().splitlines()))
        for name in set(listing.split("\0"))
        if Path(name).suffix in _SUFFIXES
        and not name.startswith(_NOT_HAND_WRITTEN)
        and name not in _TABLES
        and (ROOT / name).is_file()
    ]
    return sorted(
        ((name, length) for name, length in lengths if length > MAX_LINES),
        key=lambda found: -found[1],
    )


def main() -> int:
    """Print the files that are too long and return the exit status."""
    found = long_files()
    for name, length in found:
        print(f"{name}: {length} lines, at most {MAX_LINES}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
