from __future__ import annotations

import pytest

from pandawn_tools.simulate.figures import fairness, figures, quantile
from pandawn_tools.simulate.result import to_json, to_table
from pandawn_tools.simulate.run import POLICIES, Comparison, Setting, compare
from pandawn_tools.simulate.workload import statistics
from pandawn_tools.simulate.world import Outcome
from tests.unit.simulate.factories import make_cluster, make_job

FIELDS = {
    *("byte_hit", "file_hit", "moved_bytes", "makespan_s", "t95_s"),
    *("wait_p50_s", "wait_p99_s", "jain_fairness", "max_wait_s"),
}


def test_hits_are_shares_of_what_is_read() -> None:
    jobs = [make_job(1, 2), make_job(1)]
    outcome = Outcome(moved_bytes=30, input_bytes=120, hits=1, reads=3, wait_s=[0, 0], end=[1, 2])
    found = figures(jobs, outcome)
    assert found.byte_hit == 0.75
    assert found.file_hit == pytest.approx(1 / 3)


def test_times_count_from_the_first_arrival() -> None:
    jobs = [make_job(at=10.0) for _ in range(100)]
    outcome = Outcome(wait_s=[float(n) for n in range(100)], end=[11.0 + n for n in range(100)])
    found = figures(jobs, outcome)
    assert (found.makespan_s, found.t95_s) == (100.0, 95.0)
    assert (found.wait_p50_s, found.wait_p99_s, found.max_wait_s) == (49.0, 98.0, 99.0)


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([1, 2, 3, 4], part) for part in (0.0, 0.5, 0.51, 1.0)] == [1, 2, 3, 4]


def test_tasks_that_wait_alike_are_served_fairly() -> None:
    jobs = [make_job(task=task) for task in (1, 2, 3)]
    assert fairness(jobs, Outcome(wait_s=[60.0] * 3)) == pytest.approx(1.0)


def test_one_task_served_and_others_not_is_as_unfair_as_can_be() -> None:
    jobs = [make_job(task=task) for task in (1, 2, 3, 4)]
    outcome = Outcome(wait_s=[0.0, 1e12, 1e12, 1e12])
    assert fairness(jobs, outcome) == pytest.approx(1 / 4)


def test_json_has_what_the_contract_says_and_nothing_else() -> None:
    jobs = [make_job(1, 2), make_job(1)]
    setting = Setting(cluster=make_cluster())
    found = to_json(compare(jobs, setting, POLICIES, lambda _: None))
    assert found.keys() == {"jobs", "bound_byte_hit", "policies"}
    policies = found["policies"]
    assert isinstance(policies, dict)
    assert tuple(policies) == POLICIES
    assert all(policy.keys() == FIELDS for policy in policies.values())


def test_the_table_has_a_row_for_each_policy_and_the_bound() -> None:
    jobs = [make_job(1)]
    one = figures(jobs, Outcome(wait_s=[0.0], end=[1.0]))
    table = to_table(Comparison(statistics(jobs), {"fifo": one, "pandawn": one}))
    assert table.row_count == 3
