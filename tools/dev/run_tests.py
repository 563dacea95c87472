"""Runs all tests, several at a time, because most of them wait for servers and pilots rather than for the CPU.

`run_tests.py ARGUMENTS...` runs one pytest with these arguments instead. The exit status is 0 if all tests passed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PYTEST = Path(sys.executable).parent / "pytest"

# Two tests per core: one computes while the other waits. Each has its own PostgreSQL, so the number is limited.
_WORKERS_A_CORE = 2
_MOST_WORKERS = 16


def workers() -> int:
    """Return the number of tests to run at the same time."""
    return min(_MOST_WORKERS, _WORKERS_A_CORE * len(os.sched_getaffinity(0)))


def environment() -> Mapping[str, str]:
    """Return the environment of the tests.

    They start about a thousand Python programs; without cached bytecode a run would take twice as long.
    """
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def run_all() -> int:
    """Run all tests; return the exit status."""
    # Our own directory, removed here: pytest's clean-up fails for directories that tests nest by the thousand.
    place = Path(tempfile.mkdtemp(prefix="pandawn-tests-"))
    # Other accounts must be able to enter the directories of their payloads below it.
    place.chmod(0o711)
    try:
        return _run(f"--numprocesses={workers()}", "--dist=worksteal", f"--basetemp={place / 't'}")
    finally:
        # Not shutil, because some tests nest directories deeper than Python can handle.
        subprocess.run(["rm", "-rf", str(place)], check=False)


def _run(*arguments: str) -> int:
    command: Sequence[str] = [str(_PYTEST), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


def main(arguments: list[str]) -> int:
    """Run the requested tests and return the exit status."""
    return _run(*arguments) if arguments else run_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
