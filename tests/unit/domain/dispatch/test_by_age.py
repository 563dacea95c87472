"""The index of jobs by age finds what a look at each would find."""

from __future__ import annotations

from random import Random

import pytest

from pandawn_server.domain.dispatch.by_age import ByAge
from pandawn_server.domain.dispatch.entries import Entry
from pandawn_server.domain.dispatch.matching import Needs, fits


def entry(job_id: int, memory: int, disk: int = 0) -> Entry:
    return Entry(job_id, 0, 0.0, (), 0, Needs(memory, 1, disk, 0), 0, "ann")


def is_alive(job: Entry) -> bool:
    return job.alive


def anyone(_: Entry) -> bool:
    return True


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_first_that_fits(seed: int) -> None:
    random = Random(seed)
    jobs = [entry(n, random.randrange(1000, 5000)) for n in range(9000)]
    index = ByAge(is_alive)
    for job in jobs:
        index.append(job)
    for turn in range(100):
        # Few fit in the end.
        offer = Needs(random.randrange(900, 5000 - 40 * turn), 1, 0, 0)
        first = next((job for job in jobs if job.alive and fits(job.needs, offer)), None)
        assert index.first(offer, anyone) is first
        for job in random.sample(jobs, 50):
            job.alive = False
        if first is not None:
            first.alive = False
        if turn == 50:
            index.sweep()


def test_it_passes_over_those_that_are_not_accepted() -> None:
    index = ByAge(is_alive)
    for job_id in range(10):
        index.append(entry(job_id, 1))
    found = index.first(Needs(1, 1, 0, 0), lambda job: job.job_id > 3)
    assert found is not None
    assert found.job_id == 4


def test_it_is_empty_at_first_and_after_all_are_gone() -> None:
    index = ByAge(is_alive)
    assert index.first(Needs(9, 9, 9, 9), anyone) is None
    jobs = [entry(job_id, 1) for job_id in range(200)]
    for job in jobs:
        index.append(job)
        job.alive = False
    assert index.first(Needs(9, 9, 9, 9), anyone) is None
    index.append(entry(201, 1))
    found = index.first(Needs(9, 9, 9, 9), anyone)
    assert found is not None
    assert found.job_id == 201
