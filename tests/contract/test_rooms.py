"""The house as `docs/development.md` draws it: what a reader looks for is in the one place where it belongs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pandawn_server
from pandawn_server.domain.tasks.jobs import TRANSITIONS, JobState, check_step

SERVER = Path(pandawn_server.__file__).parent
ROOMS = {"dispatch", "leases", "tasks", "brokerage", "catalog", "queues", "access", "monitor"}


def sources(under: str) -> list[Path]:
    return [path for path in (SERVER / under).rglob("*.py") if "migrations" not in path.parts]


@pytest.mark.parametrize("layer", ["domain", "storage", "usecases", "wire"])
def test_a_layer_has_no_folder_but_the_rooms(layer: str) -> None:
    folders = {path.name for path in (SERVER / layer).iterdir() if (path / "__init__.py").exists()}
    shared = (
        {"auth", "edge"} if layer == "wire" else {"migrations"} if layer == "storage" else set()
    )
    assert folders - shared <= ROOMS
    # The choice of a queue has no tables and no service of its own.
    assert ROOMS - {"brokerage"} <= folders


def names_a_job_state(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and part.value.id in {"JobState", "state"}
        for part in ast.walk(node)
    )


def test_one_module_moves_jobs_and_one_hands_them_out() -> None:
    """Both ask the table of transitions: `step` and `check_step` raise for what it does not have."""
    writers = {
        path.relative_to(SERVER).as_posix()
        for path in sources("storage")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "values"
        for given in call.keywords
        if given.arg == "state" and names_a_job_state(given.value)
    }
    # Pilots have states of their own.
    assert writers - {"storage/leases/pilots.py"} == {"storage/tasks/job_moves.py"}
    handing_out = (SERVER / "storage/dispatch/handout.py").read_text(encoding="utf-8")
    assert handing_out.count("SET state =") == handing_out.count("check_step([") == 1


def test_no_step_is_made_that_the_table_does_not_have() -> None:
    for before in JobState:
        for after in JobState:
            if after in TRANSITIONS[before]:
                check_step([before], after)
            else:
                with pytest.raises(ValueError, match=f"cannot move from {before.value}"):
                    check_step([before], after)


def test_nobody_must_remember_to_wake_polls() -> None:
    """What a transaction committed does, and the look around every second."""
    wakers = {
        path.relative_to(SERVER).as_posix()
        for path in sources(".")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in {"wake", "wake_all"}
    }
    assert wakers <= {"main.py", "background.py", "wire/dispatch/polls.py"}
    assert "main.py" in wakers
