"""The wheel, built once, and fresh environments to install it into."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> str:
    """Run a command at the root of the repository and return its output, or fail with it."""
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{command[0]} failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment beside the project's own."""

    python: Path

    def install(self, *arguments: str | Path) -> None:
        """Install with uv, which the bootstrap finds, and with pip's settings, which it carries."""
        run("tools/dev/bootstrap.sh", "uv", "pip", "install", "--python", self.python, *arguments)

    def versions(self) -> dict[str, str]:
        """Return what is installed, as name -> version."""
        listing = run("tools/dev/bootstrap.sh", "uv", "pip", "freeze", "--python", self.python)
        pairs = (line.replace(" @ ", "==").split("==", 1) for line in listing.splitlines())
        return dict(pairs)

    def run_code(self, code: str) -> str:
        """Run Python code with warnings as errors, away from this repository's own modules."""
        return run(self.python, "-I", "-W", "error", "-c", code)


def build(project: Path, directory: Path, target: str = "wheel") -> Path:
    """Build the wheel or the sdist of a project and return its path."""
    command = ("hatchling", "build", "--target", target, "--directory", str(directory))
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of server and tools, of the working tree."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def pilot_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of worker nodes, of the working tree."""
    return build(ROOT / "pilot_client", tmp_path_factory.mktemp("pilot-wheel"))


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with nothing in it."""
    directory = tmp_path / "venv"
    run("tools/dev/bootstrap.sh", "uv", "venv", "--quiet", "--python", sys.executable, directory)
    return Environment(directory / "bin" / "python")
