"""Runs all static checks of the project in parallel, and reports those that failed, with their output.

`check.py NAME...` runs only these. Each check is one command; `make check` runs exactly the list below.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BIN = Path(sys.executable).parent
_SOURCES = ("server", "pilot_client", "tools", "tests")


@dataclass(frozen=True)
class Check:
    """One command that must exit with 0."""

    name: str
    command: tuple[str, ...]
    # Whether to show its output even if it passes.
    warns: bool = False


CHECKS = (
    # The slowest first, so that the others run beside it.
    Check("mypy", (f"{_BIN}/mypy",)),
    # The oldest Python that mypy supports, for the code that runs on nodes. Tests run it on 3.9 itself.
    Check("mypy-nodes", (f"{_BIN}/mypy", "--python-version", "3.10", "pilot_client")),
    Check("ruff", (f"{_BIN}/ruff", "check", "--quiet", *_SOURCES)),
    Check("format", (f"{_BIN}/ruff", "format", "--quiet", "--diff", *_SOURCES)),
    Check("layers", (f"{_BIN}/lint-imports", "--no-logo")),
    Check("buf-lint", (f"{_BIN}/buf", "lint")),
    Check("buf-format", (f"{_BIN}/buf", "format", "--diff", "--exit-code")),
    Check("buf-breaking", (sys.executable, "tools/dev/check_breaking.py"), warns=True),
    Check("stubs", (sys.executable, "tools/dev/generate_stubs.py", "--check")),
    Check("api-reference", (sys.executable, "tools/dev/generate_api_reference.py", "--check")),
    Check("file-lengths", (sys.executable, "tools/dev/check_file_lengths.py")),
)


@dataclass(frozen=True)
class Outcome:
    """The output of a check, and its duration."""

    check: Check
    passed: bool
    output: str
    seconds: float


def run(check: Check) -> Outcome:
    """Run one check at the root of the repository."""
    begin = time.monotonic()
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{_BIN}:{os.environ['PATH']}", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(check, done.returncode == 0, done.stdout.strip(), time.monotonic() - begin)


def run_all(checks: tuple[Check, ...]) -> Iterator[Outcome]:
    """Run the checks, as many at a time as there are cores, and yield each as it ends."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        for future in as_completed([pool.submit(run, check) for check in checks]):
            yield future.result()


def main(names: list[str]) -> int:
    """Run the named checks, or all, and return the exit status."""
    unknown = set(names) - {check.name for check in CHECKS}
    if unknown:
        print(f"no such check: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    failed, shown = [], []
    for outcome in run_all(tuple(check for check in CHECKS if not names or check.name in names)):
        verdict = "ok" if outcome.passed else "FAILED"
        print(f"{outcome.check.name:14} {verdict:6} {outcome.seconds:6.1f} s", flush=True)
        if not outcome.passed:
            failed.append(outcome)
        elif outcome.check.warns and outcome.output:
            shown.append(outcome)
    for outcome in shown + failed:
        print(f"\n--- {outcome.check.name}: {' '.join(outcome.check.command)}\n{outcome.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
