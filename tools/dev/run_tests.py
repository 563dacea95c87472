"""Runs all tests as two halves side by side: most of them wait for servers and pilots more than for the processor.

`run_tests.py ARGUMENTS...` runs one pytest with these instead. Exit status: 0 if all that ran has passed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
_PYTEST = Path(sys.executable).parent / "pytest"

# As long as all the rest together.
_FIRST = ("tests/e2e",)
_NO_TESTS = frozenset({"fixtures", "__pycache__"})


def halves() -> tuple[list[str], list[str]]:
    """Return the directories of both halves; the second is whatever is not in the first."""
    found = sorted(
        f"tests/{path.name}"
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and path.name not in _NO_TESTS
    )
    return list(_FIRST), [name for name in found if name not in _FIRST]


def run_all() -> int:
    """Run both halves; show one as it goes and the other when that has ended."""
    # Directories of our own, removed here: pytest's own clean-up gives up on those that tests nest by the thousand.
    place = Path(tempfile.mkdtemp(prefix="pandawn-tests-"))
    place.chmod(0o711)
    running: list[subprocess.Popen[bytes]] = []
    try:
        first, second = halves()
        with (place / "first.log").open("wb") as log:
            running.append(_start(place / "first", first, log))
            running.append(_start(place / "second", second, None))
            status = max(process.wait() for process in reversed(running))
        sys.stdout.flush()
        sys.stdout.buffer.write((place / "first.log").read_bytes())
        sys.stdout.flush()
        return status
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
        # Not shutil: some tests nest directories deeper than Python follows.
        subprocess.run(["rm", "-rf", str(place)], check=False)


def _start(directory: Path, parts: list[str], log: BinaryIO | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(_PYTEST), f"--basetemp={directory}", *parts],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log is not None else None,
    )


def main(arguments: list[str]) -> int:
    """Run what is asked for and return the exit status."""
    if arguments:
        return subprocess.run([str(_PYTEST), *arguments], cwd=ROOT, check=False).returncode
    return run_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
