from __future__ import annotations

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.tasks.jobs import JobFilter
from pandawn_server.usecases.tasks.read import list_jobs
from tests.fixtures.world import World


def pages(world: World, wanted: JobFilter, size: int) -> list[list[int]]:
    found: list[list[int]] = []
    after = 0
    while page := [
        job.job_id for job in list_jobs(world.context, after, size, wanted, LOCAL_OPERATOR)
    ]:
        found.append(page)
        after = page[-1]
    return found


def test_jobs_are_listed_by_their_numbers_and_pages_join(world: World) -> None:
    ids = sorted(job.job_id for job in world.submit_jobs(5))
    assert pages(world, JobFilter(), 2) == [ids[:2], ids[2:4], ids[4:]]


def test_the_newest_jobs_come_first_when_asked_and_pages_join(world: World) -> None:
    ids = sorted((job.job_id for job in world.submit_jobs(5)), reverse=True)
    assert pages(world, JobFilter(newest_first=True), 2) == [ids[:2], ids[2:4], ids[4:]]
