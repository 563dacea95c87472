"""The server's matchmaker in the simulator: what it gains, and what faults do to it."""

from __future__ import annotations

import pytest

from pandawn_tools.simulate.cluster import Cluster
from pandawn_tools.simulate.models import Model, ndgf
from pandawn_tools.simulate.reports import Faults
from pandawn_tools.simulate.run import POLICIES, Comparison, Setting, compare
from pandawn_tools.simulate.workload import SimJob

CLUSTER = Cluster(nodes=8, slots=4)


def run(jobs: list[SimJob], setting: Setting, *policies: str) -> Comparison:
    return compare(jobs, setting, policies, lambda _: None)


@pytest.fixture(scope="module")
def jobs() -> list[SimJob]:
    """A day's work for eight nodes, a little more than they can do."""
    return ndgf(Model(jobs=1500, dataset_files=30, reuse_depth=10, hours=26), 1)


@pytest.fixture(scope="module")
def found(jobs: list[SimJob]) -> Comparison:
    """All policies on it."""
    return run(jobs, Setting(cluster=CLUSTER), *POLICIES)


def test_it_spares_more_than_any_of_the_others(found: Comparison) -> None:
    hits = {name: figures.byte_hit for name, figures in found.policies.items()}
    ours = hits.pop("pandawn")
    assert ours > 1.3 * max(hits.values())


def test_nobody_spares_more_than_one_infinite_cache_would(found: Comparison) -> None:
    best = max(figures.byte_hit for figures in found.policies.values())
    assert best <= found.workload.bound_byte_hit


def test_it_does_not_delay_the_work_as_a_whole(found: Comparison) -> None:
    fifo, ours = found.policies["fifo"], found.policies["pandawn"]
    assert ours.t95_s <= 1.02 * fifo.t95_s


def test_the_same_seed_gives_the_same_figures(jobs: list[SimJob], found: Comparison) -> None:
    again = run(jobs, Setting(cluster=CLUSTER), "pandawn")
    assert again.policies["pandawn"] == found.policies["pandawn"]


@pytest.mark.parametrize(
    "faults",
    [
        Faults(stale_s=600.0),
        Faults(lost=0.3),
        Faults(down=((3600.0, 10_800.0),)),
        Faults(stale_s=120.0, lost=0.2, down=((0.0, 7200.0), (36_000.0, 40_000.0))),
    ],
)
def test_a_catalog_that_is_wrong_costs_hits_and_never_a_job(
    jobs: list[SimJob], found: Comparison, faults: Faults
) -> None:
    figures = run(jobs, Setting(cluster=CLUSTER, faults=faults), "pandawn").policies["pandawn"]
    assert (
        found.policies["fifo"].byte_hit
        < figures.byte_hit
        < found.policies["pandawn"].byte_hit + 0.02
    )


def test_all_jobs_are_done_though_nodes_fail(jobs: list[SimJob]) -> None:
    cluster = Cluster(nodes=8, slots=4, mtbf_s=12 * 3600.0)
    found = run(jobs, Setting(cluster=cluster), "pandawn", "fifo", "panda2010")
    hits = {name: figures.byte_hit for name, figures in found.policies.items()}
    assert hits["pandawn"] > max(hits["fifo"], hits["panda2010"])


def test_priority_goes_before_files() -> None:
    # One slot; the node holds what the jobs of low priority read.
    low = [SimJob(0.0, 1, 0, 100.0, ((1, 10**9),)) for _ in range(5)]
    high = [SimJob(50.0, 2, 1000, 100.0, ((2, 10**9),)) for _ in range(5)]
    figures = run([*low, *high], Setting(cluster=Cluster(nodes=1, slots=1)), "pandawn").policies
    # The first of low priority, then those of high, then the rest: each set is moved once.
    assert figures["pandawn"].byte_hit == pytest.approx(0.8)
    assert figures["pandawn"].max_wait_s > 600
