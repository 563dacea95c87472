from __future__ import annotations

import pytest

from pandawn_tools.simulate.models import Model, ndgf, scattered
from pandawn_tools.simulate.workload import (
    SimJob,
    Statistics,
    hours_for,
    rewritten,
    statistics,
    stretched,
)


@pytest.fixture(scope="module")
def published() -> list[SimJob]:
    """The workload of the defaults."""
    return ndgf(Model(), 1)


@pytest.fixture(scope="module")
def found(published: list[SimJob]) -> Statistics:
    """What it is like."""
    return statistics(published)


def test_the_model_makes_as_many_jobs_as_asked(found: Statistics) -> None:
    assert found.jobs == 83_000


def test_its_jobs_read_as_many_inputs_as_was_published(found: Statistics) -> None:
    assert found.inputs_per_job == pytest.approx(6.6, rel=0.01)


def test_its_inputs_are_as_large_as_was_published(found: Statistics) -> None:
    assert found.mean_input_bytes == pytest.approx(338e6, rel=0.02)


def test_its_files_but_the_hot_ones_are_read_as_often_as_was_published(
    published: list[SimJob],
) -> None:
    cold = [file for job in published for file, _ in job.inputs if file >= Model().hot_files]
    assert len(cold) / len(set(cold)) == pytest.approx(3.9, rel=0.04)


def test_one_infinite_cache_would_spare_three_quarters_of_its_bytes(found: Statistics) -> None:
    assert found.bound_byte_hit == pytest.approx(0.74, abs=0.015)


def test_its_jobs_run_forty_minutes_on_average_and_arrive_in_a_day(found: Statistics) -> None:
    assert found.mean_runtime_s == pytest.approx(2400, rel=0.02)
    assert found.hours == pytest.approx(24, rel=0.02)


def test_the_same_seed_makes_the_same_jobs() -> None:
    model = Model(jobs=500)
    assert ndgf(model, 3) == ndgf(model, 3)
    assert ndgf(model, 3) != ndgf(model, 4)


def test_jobs_come_in_the_order_of_time() -> None:
    for jobs in (ndgf(Model(jobs=500), 1), scattered(Model(jobs=500), 1)):
        times = [job.at for job in jobs]
        assert times == sorted(times)


def test_files_read_once_leave_nothing_to_spare_but_the_hot_set() -> None:
    assert statistics(ndgf(Model(jobs=2000, reads=1.0, hot_files=0), 1)).bound_byte_hit == 0


def test_scattered_jobs_read_any_file_alike() -> None:
    found = statistics(scattered(Model(jobs=5000), 1))
    assert found.inputs_per_job == pytest.approx(6.6, rel=0.02)
    assert found.reads_per_file == pytest.approx(3.9, rel=0.05)
    assert found.tasks == found.jobs


def test_a_workload_can_be_stretched_to_a_load() -> None:
    jobs = ndgf(Model(jobs=1000), 1)
    hours = hours_for(jobs, load=0.5, slots=10)
    slower = statistics(stretched(jobs, hours))
    assert slower.hours == pytest.approx(hours)
    assert slower.mean_runtime_s * slower.jobs / (slower.hours * 3600) == pytest.approx(5)


def test_a_file_that_is_written_anew_is_another_file_to_those_who_come_later() -> None:
    jobs = [SimJob(float(at), 1, 0, 60.0, ((1, 10), (2, 20))) for at in range(100)]
    again = rewritten(jobs, 1.0, 1)
    assert [job.at for job in again] == [job.at for job in jobs]
    for place, size in ((0, 10), (1, 20)):
        read = [job.inputs[place] for job in again]
        versions = list(dict.fromkeys(read))
        assert len(versions) == 2
        assert {size for _, size in versions} == {size}
        # Once, and never back.
        assert read == sorted(read, key=versions.index)
    assert len({file for job in again for file, _ in job.inputs}) == 4
    assert rewritten(jobs, 0.0, 1) == jobs
