"""What a user gets who installs the command line alone, to work with a server elsewhere."""

import subprocess
from pathlib import Path

from tests.packaging.conftest import Environment


def run_pandawn(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = environment.python.with_name("pandawn")
    return subprocess.run(
        [program, *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(environment.python.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_works_alone_and_says_what_the_demo_needs(
    wheel: Path, pilot_wheel: Path, environment: Environment
) -> None:
    environment.install(
        "--constraint", "requirements.lock", pilot_wheel, f"pandawn[cli] @ {wheel.as_uri()}"
    )
    installed = set(environment.versions())
    assert installed.isdisjoint({"sqlalchemy", "pymemcache", "uproot", "matplotlib"})
    assert run_pandawn(environment, "--help").returncode == 0
    nobody = run_pandawn(environment, "tasks", "--server", "127.0.0.1:1")
    assert nobody.returncode == 4
    assert "SERVER_UNREACHABLE" in nobody.stderr
    demo = run_pandawn(environment, "demo")
    assert demo.returncode == 2
    assert "pip install 'pandawn[demo]'" in demo.stderr
    assert "uproot" in demo.stderr
