"""Users' mistakes close no node, broken nodes are found, and no job fails by them: the server's rules at work."""

from __future__ import annotations

import json
from random import Random

import pytest

from pandawn_tools.simulate.mishap_world import MishapWorld, Outcome
from pandawn_tools.simulate.mishaps import BAD_TASKS, Sort, draw_broken, draw_tasks
from tests.fixtures.command import RunCli


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return MishapWorld(nodes=40, slots=8, users=40, jobs=3000, hours=4, seed=1).run()


def test_no_good_node_is_suspended_by_the_mistakes_of_users(outcome: Outcome) -> None:
    assert outcome.failed_by_users > 100
    assert outcome.good_nodes_suspended == 0


def test_no_job_fails_for_good_because_of_a_node(outcome: Outcome) -> None:
    assert outcome.failed_by_nodes == 0


def test_broken_nodes_of_each_sort_are_suspended_within_ten_of_their_jobs(
    outcome: Outcome,
) -> None:
    assert {sort for sort, _ in outcome.waits} == {sort.value for sort in Sort}
    assert all(jobs is not None and jobs <= 10 for _, jobs in outcome.waits), outcome.waits


def test_what_is_drawn_is_what_is_said() -> None:
    tasks = draw_tasks(Random(1), 40_000, 40, 3600)
    bad = sum(task.mistake is not None for task in tasks) / len(tasks)
    assert abs(bad - BAD_TASKS) < 0.05
    assert sum(len(task.runtimes) for task in tasks) == 40_000
    assert len(draw_broken(Random(1), 1000, 3600)) == 30


def test_the_command_prints_a_table_or_json(run_cli: RunCli) -> None:
    small = ("simulate-faults", "--nodes", "10", "--jobs", "100", "--hours", "1", "--seeds", "1")
    assert "GOOD NODES SUSPENDED" in run_cli(*small, COLUMNS="160").out
    assert json.loads(run_cli(*small, "--json").out)["jobs"] == 100
