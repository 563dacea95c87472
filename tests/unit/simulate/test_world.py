"""The virtual clock: staging, slots, caches, and nodes that fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pandawn_tools.simulate.policy import Given
from pandawn_tools.simulate.workload import SimJob
from pandawn_tools.simulate.world import Outcome, StuckError, World
from tests.unit.simulate.factories import MB, Scripted, make_cluster, make_job, make_nodes

FILE = 60 * MB


def run(jobs: Sequence[SimJob], policy: Scripted | None = None, **cluster: float) -> Outcome:
    return World(jobs, make_cluster(**cluster), policy or Scripted(), 1).run()


def test_a_job_moves_its_files_and_then_runs() -> None:
    outcome = run([make_job(1, 2)])
    assert outcome.end == [62.0]
    assert (outcome.moved_bytes, outcome.hits, outcome.reads) == (2 * FILE, 0, 2)


def test_what_is_in_the_cache_is_not_moved_again() -> None:
    outcome = run([make_job(1, 2), make_job(2, 3)])
    assert outcome.end == [62.0, 123.0]
    assert (outcome.moved_bytes, outcome.hits) == (3 * FILE, 1)


def test_a_file_on_its_way_is_waited_for_and_moved_once() -> None:
    outcome = run([make_job(1), make_job(1)], slots=2)
    assert outcome.end == [61.0, 61.0]
    assert (outcome.moved_bytes, outcome.hits) == (FILE, 1)


def test_the_jobs_of_a_node_share_its_link() -> None:
    assert run([make_job(1), make_job(2)], slots=2).end == [61.0, 62.0]


def test_nodes_have_a_link_each() -> None:
    assert run([make_job(1), make_job(2)], nodes=2).end == [61.0, 61.0]


def test_a_full_cache_drops_what_was_unused_for_longest() -> None:
    outcome = run(
        [make_job(1), make_job(2), make_job(1), make_job(3), make_job(1)], cache_bytes=2 * FILE
    )
    assert outcome.hits == 2


def test_a_cache_without_room_keeps_nothing() -> None:
    assert run([make_job(1), make_job(1)], cache_bytes=0).hits == 0


def test_a_policy_hears_of_each_change_of_a_cache() -> None:
    policy = Scripted()
    run([make_job(1), make_job(2)], policy, cache_bytes=FILE)
    assert ("0 +[1] -[]", 1.0) in policy.heard
    assert ("0 +[2] -[1]", 62.0) in policy.heard


def test_a_wait_counts_from_when_a_job_is_runnable_until_it_has_a_slot() -> None:
    outcome = run([make_job(at=5.0), make_job(at=10.0)])
    assert outcome.wait_s == [0.0, 55.0]


def test_the_jobs_of_a_failed_node_run_again_when_their_leases_have_lapsed() -> None:
    policy = Scripted()
    jobs = [make_job(number, runtime_s=20_000.0) for number in range(10)]
    outcome = run(jobs, policy, mtbf_s=40_000.0, repair_s=1000.0, lease_s=600.0, heartbeat_s=10.0)
    failures = [at for what, at in policy.heard if what == "0 failed"]
    returns = [at for what, at in policy.heard if what.startswith("arrive") and at > 0]
    assert outcome.lost_attempts == len(returns) > 0
    for returned in returns:
        failed = max(at for at in failures if at < returned)
        assert 590 < returned - failed <= 600
    assert outcome.reads == 10 + len(returns)


def test_a_failed_node_is_back_empty_with_all_its_slots() -> None:
    (node,) = make_nodes(1, slots=2)
    node.keep([])
    node.stage([(1, FILE)], 0.0, 60e6)
    node.keep([(1, FILE)])
    node.free, node.running = 1, {7: 0.0}
    assert node.fail() == {7: 0.0}
    assert (node.free, node.up, len(node.cache), node.used_bytes) == (0, False, 0, 0)


def test_nodes_fail_at_the_same_times_whatever_the_policy() -> None:
    def failures(slots: int) -> list[tuple[str, float]]:
        policy = Scripted()
        jobs = [make_job(n, runtime_s=5000.0) for n in range(20)]
        run(jobs, policy, nodes=3, slots=slots, mtbf_s=20_000.0)
        return [one for one in policy.heard if one[0].endswith("failed")]

    few, many = sorted((failures(2), failures(1)), key=len)
    assert few
    assert many[: len(few)] == few


def test_a_policy_that_forgets_a_job_is_found_out() -> None:
    class Forgetful(Scripted):
        def choose(self, now: float) -> Sequence[Given]:
            del now
            return []

    with pytest.raises(StuckError, match="1 jobs wait"):
        run([make_job()], Forgetful())
