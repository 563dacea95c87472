"""Runs all tests, several at a time: most of them wait for servers and pilots more than for the processor.

`run_tests.py ARGUMENTS...` runs one pytest with these instead. Exit status: 0 if all that ran has passed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PYTEST = Path(sys.executable).parent / "pytest"

# Two tests a core: one computes while the other waits. Each has a PostgreSQL of its own, so not without end.
_WORKERS_A_CORE = 2
_MOST_WORKERS = 16


def workers() -> int:
    """Return how many tests shall run at the same time."""
    return min(_MOST_WORKERS, _WORKERS_A_CORE * len(os.sched_getaffinity(0)))


def environment() -> Mapping[str, str]:
    """Return what the tests find in their environment.

    They start some thousand Python programs: compiling all modules anew for each would double the time of a run.
    """
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def run_all() -> int:
    """Run all tests; return the exit status."""
    # A directory of our own, removed here: pytest's own clean-up gives up on those that tests nest by the thousand.
    place = Path(tempfile.mkdtemp(prefix="pandawn-tests-"))
    # Other accounts pass through it to the directories of their payloads.
    place.chmod(0o711)
    try:
        return _run(f"--numprocesses={workers()}", "--dist=worksteal", f"--basetemp={place / 't'}")
    finally:
        # Not shutil: some tests nest directories deeper than Python follows.
        subprocess.run(["rm", "-rf", str(place)], check=False)


def _run(*arguments: str) -> int:
    command: Sequence[str] = [str(_PYTEST), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


def main(arguments: list[str]) -> int:
    """Run what is asked for and return the exit status."""
    return _run(*arguments) if arguments else run_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
