"""Jobs go where their files are: the dispatcher over both kinds of catalog."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    Delta,
    DeltaResult,
    FileRef,
    Inventory,
    inventory_digest,
)
from pandawn_server.domain.dispatch.matching import OVERTAKEN_S
from pandawn_server.domain.errors import NotFoundError, UnavailableError
from pandawn_server.domain.leases.attempts import Locality, MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.storage.database import Database
from pandawn_server.usecases.catalog.files import (
    check_files,
    flush_cache,
    get_cache,
    list_files,
    locate_files,
    replace_inventory,
    write_deltas,
)
from pandawn_server.usecases.dispatch.desks import AcquireCall
from pandawn_server.usecases.monitor import read
from tests.fixtures.catalog import catalog_on, memcached_store
from tests.fixtures.factories import ANYTHING, SITE, make_cached, make_input, make_inputs, node_key
from tests.fixtures.memcached import MemcachedFactory
from tests.fixtures.world import World, good, job_ids, reason

GB = 10**9
EPOCH = 77


@pytest.fixture
def world(sqlite_database: Database, catalog: Catalog) -> World:
    """A server with one queue, on each kind of catalog in turn."""
    world = World(sqlite_database, catalog)
    world.queue()
    world.reap()
    return world


def submit_files(world: World, count: int = 3, size_bytes: int = GB) -> list[int]:
    """Submits a task of jobs that read one file each; returns the jobs."""
    task = world.submit(inputs=make_inputs(count, size_bytes)).task
    return [job.job_id for job in world.jobs(task.task_id)]


def test_a_node_gets_the_job_whose_file_it_holds(world: World) -> None:
    ids = submit_files(world)
    world.keep(node_key(1), make_input(3, GB))
    grant = world.take(world.pilot(1))
    assert grant.job.job_id == ids[2]
    assert grant.match.rule is MatchRule.LOCAL_BYTES
    assert (grant.match.local_bytes, grant.match.moved_bytes) == (GB, 0)
    assert grant.match.locality is Locality.KNOWN
    assert "100% of its 1,000,000,000 input bytes" in grant.explanation


def test_nodes_of_one_batch_get_their_own_jobs(world: World) -> None:
    ids = submit_files(world)
    calls = []
    for node, number in ((1, 3), (2, 1), (3, 2)):
        world.keep(node_key(node), make_input(number, GB))
        calls.append(AcquireCall(world.pilot(node).pilot_id, f"r{node}", 1, ANYTHING, None))
    answers = [good(answer) for answer in world.ask_all(calls)]
    assert [job_ids(answer.grants) for answer in answers] == [[ids[2]], [ids[0]], [ids[1]]]


def test_a_file_of_the_same_name_and_another_size_does_not_help(world: World) -> None:
    ids = submit_files(world)
    world.keep(node_key(1), make_input(3, GB - 1))
    grant = world.take(world.pilot(1))
    assert grant.job.job_id == ids[0]
    assert grant.match.local_bytes == 0


def test_a_file_of_the_same_name_in_another_scope_does_not_help(world: World) -> None:
    ids = submit_files(world)
    world.keep(node_key(1), make_input(3, GB)._replace(scope="mc"))
    assert world.take(world.pilot(1)).job.job_id == ids[0]


def test_most_bytes_win_and_not_most_files(world: World) -> None:
    small = tuple(make_input(number, 1000) for number in (1, 2, 3))
    big = (make_input(4, GB), make_input(5, GB), make_input(6, 1))
    world.submit(inputs=small + big, files_per_job=3)
    world.keep(node_key(1), *small[:2], big[0], big[1])
    grant = world.take(world.pilot(1))
    assert grant.job.index == 2
    assert grant.match.local_bytes == 2 * GB


@pytest.mark.parametrize(
    "held",
    [
        {"version": f"sha256:{7:064x}"},
        {"version": ""},
        {"version": "site"},
        {"size_bytes": GB + 1},
        {"scope": "user.ben"},
    ],
    ids=["version", "unknown version", "site", "size", "scope"],
)
def test_bytes_of_another_file_of_that_name_are_not_local(
    world: World, held: dict[str, Any]
) -> None:
    world.submit(inputs=[make_input(1, GB)])
    world.keep(node_key(1), make_input(1, GB)._replace(**held))
    assert world.take(world.pilot(1)).match.local_bytes == 0


def test_a_file_of_unknown_version_is_local_nowhere_and_its_bytes_count_as_to_be_moved(
    world: World,
) -> None:
    unknown = make_input(1, GB, checksum="", version="")
    world.submit(inputs=[unknown])
    world.keep(node_key(1), unknown)
    grant = world.take(world.pilot(1))
    assert (grant.match.input_bytes, grant.match.local_bytes) == (GB, 0)
    assert grant.inputs == (unknown,)


def test_a_node_with_one_version_gets_the_job_that_names_it(world: World) -> None:
    old, new = make_input(1, GB), make_input(1, GB, version=f"sha256:{7:064x}")
    world.submit(inputs=[old])
    world.submit(inputs=[new], dataset="user.anna.again")
    world.keep(node_key(1), new)
    world.keep(node_key(2), old)
    assert [file.version for file in world.take(world.pilot(1)).inputs] == [new.version]
    assert [file.version for file in world.take(world.pilot(2)).inputs] == [old.version]


def test_a_higher_priority_goes_first_whatever_the_node_holds(world: World) -> None:
    submit_files(world)
    (urgent,) = world.submit_jobs(1, priority=100)
    world.keep(node_key(1), make_input(3, GB))
    grant = world.take(world.pilot(1))
    assert grant.job.job_id == urgent.job_id
    assert grant.match.rule is MatchRule.PRIORITY


def test_a_job_is_held_for_the_live_node_that_has_its_file_and_no_longer_than_the_wait(
    world: World,
) -> None:
    world.queue(locality_wait=timedelta(seconds=30))
    (job_id,) = submit_files(world, 1, size_bytes=10 * GB)
    world.keep(node_key(2), make_input(1, 10 * GB))
    home, stranger = world.pilot(2), world.pilot(1)
    assert world.acquire(stranger) == ()
    held = world.why(job_id).hold
    assert held is not None
    assert held.node == node_key(2).node
    assert held.until == world.clock.now + timedelta(seconds=30)
    assert job_ids(world.acquire(home)) == [job_id]


def test_a_held_job_is_given_away_when_its_time_is_over(world: World) -> None:
    world.queue(locality_wait=timedelta(seconds=30))
    (job_id,) = submit_files(world, 1, size_bytes=10 * GB)
    world.keep(node_key(2), make_input(1, 10 * GB))
    world.pilot(2)
    stranger = world.pilot(1)
    for _ in range(3):
        assert world.acquire(stranger) == ()
        world.advance(seconds=10)
    grant = world.take(stranger)
    assert grant.job.job_id == job_id
    assert grant.match.waited == timedelta(seconds=30)


def test_another_job_is_given_while_one_is_held(world: World) -> None:
    world.queue(locality_wait=timedelta(seconds=30))
    held, *others = submit_files(world, 3, size_bytes=10 * GB)
    world.keep(node_key(2), make_input(1, 10 * GB))
    world.pilot(2)
    grants = world.acquire(world.pilot(1), 5)
    assert job_ids(grants) == others
    assert [grant.match.held for grant in grants] == [1, 1]
    assert "1 held for other nodes" in grants[0].explanation
    assert held not in job_ids(grants)


def test_no_job_is_held_for_a_node_without_a_live_pilot(world: World) -> None:
    world.queue(locality_wait=timedelta(minutes=2))
    submit_files(world, 1, size_bytes=10 * GB)
    world.keep(node_key(2), make_input(1, 10 * GB))
    world.leave(world.pilot(2))
    assert len(world.acquire(world.pilot(1))) == 1


def test_no_job_is_held_for_a_node_that_gets_no_jobs(world: World) -> None:
    broken = world.pilot(2)
    world.suspend(2)
    assert world.acquire(broken) == ()
    world.queue(locality_wait=timedelta(minutes=2))
    submit_files(world, 1, size_bytes=10 * GB)
    world.keep(node_key(2), make_input(1, 10 * GB))
    assert world.why(world.jobs()[-1].job_id).hold is None
    assert len(world.acquire(world.pilot(1))) == 1


def test_why_shows_what_the_live_nodes_hold_most_first(world: World) -> None:
    world.submit(inputs=make_inputs(2, GB), files_per_job=2)
    world.keep(node_key(1), make_input(1, GB))
    world.keep(node_key(2), *make_inputs(2, GB))
    world.keep(node_key(3), *make_inputs(2, GB))
    for node in (1, 2, 4):
        world.pilot(node)
    shares = [(share.node, share.local_bytes) for share in world.why(1).shares]
    assert shares == [(node_key(2).node, 2 * GB), (node_key(1).node, GB)]


def test_why_tells_until_when_jobs_that_fit_a_node_better_go_before_one(world: World) -> None:
    passed_by, better = submit_files(world, 2)
    world.keep(node_key(1), make_input(2, GB))
    assert job_ids(world.acquire(world.pilot(1))) == [better]
    until = world.clock.now + timedelta(seconds=OVERTAKEN_S)
    assert f"overtake it until {until:%H:%M:%S} UTC" in world.why(passed_by).summary
    world.advance(seconds=OVERTAKEN_S)
    assert "a pilot with a free slot gets it" in world.why(passed_by).summary


def test_a_job_that_no_node_can_take_is_not_said_to_be_held_by_a_server_just_started(
    world: World,
) -> None:
    world.queue(locality_wait=timedelta(minutes=2))
    needs = Requirements(cores=8)
    world.submit(inputs=make_inputs(1, 10 * GB), requirements=needs)
    world.keep(node_key(1), make_input(1, 10 * GB))
    assert world.ask(world.pilot(1), offer=Requirements(cores=1)).grants == ()
    found = world.beside(world.db).why(1)
    assert found.hold is None
    assert found.summary.startswith("no node can take it: the job needs 8 cores")


def test_an_acquisition_asks_for_the_inventory_of_a_cache_that_differs(world: World) -> None:
    pilot = world.pilot(1)
    cache = CacheState(EPOCH, 5, 1234)
    assert world.ask(pilot, cache=cache).inventory_requested
    files = tuple(map(make_cached, make_inputs(3, GB)))
    replace_inventory(world.context, Inventory(pilot.key, EPOCH, 5, files))
    same = CacheState(EPOCH, 5, inventory_digest(files))
    assert not world.ask(pilot, cache=same).inventory_requested
    assert world.ask(pilot, cache=replace(same, digest=1)).inventory_requested


def test_catalog_writes_are_answered_one_by_one_and_make_the_node_known(world: World) -> None:
    file = CachedFile("a", GB)
    added, unknown, gap = write_deltas(
        world.context,
        [
            Delta(node_key(1), EPOCH, 1, added=(file,)),
            Delta(node_key(2), 0, 0, deleted=(FileRef("a"),)),
            Delta(node_key(3), EPOCH, 9, added=(file,)),
        ],
    )
    assert good(added).result is DeltaResult.APPLIED
    assert reason(unknown) == "NODE_NOT_FOUND"
    assert good(gap).result is DeltaResult.INVENTORY_REQUESTED
    known = [view.node.key for view in read.list_nodes(world.context, None, 9, "")]
    assert node_key(1) in known
    assert node_key(2) not in known


def test_a_cache_is_listed_located_checked_and_flushed(world: World) -> None:
    world.keep(node_key(1), *make_inputs(3, GB))
    world.keep(node_key(2), make_input(2, GB))
    context = world.context
    assert [f.lfn for f, _ in list_files(context, node_key(1), None, 2)] == [
        "data.000001.root",
        "data.000002.root",
    ]
    refs = [FileRef("data.000002.root"), FileRef("nothing")]
    assert locate_files(context, SITE, refs) == [
        {node_key(1).node: GB, node_key(2).node: GB},
        {},
    ]
    (held, unknown) = check_files(context, [(node_key(1), refs), (node_key(9), refs)])
    assert good(held) == [GB, None]
    assert reason(unknown) == "NODE_NOT_FOUND"
    assert get_cache(context, node_key(1)).file_count == 3
    forgotten, epoch = flush_cache(context, node_key(1), "r", LOCAL_OPERATOR)
    assert forgotten == 3
    assert get_cache(context, node_key(1)).state.epoch == epoch
    assert list_files(context, node_key(1), None, 9) == []


def test_what_the_catalog_does_not_know_is_an_error_that_says_so(world: World) -> None:
    nobody = node_key(9)
    for call in (
        lambda: list_files(world.context, nobody, None, 1),
        lambda: get_cache(world.context, nobody),
        lambda: flush_cache(world.context, nobody, "r", LOCAL_OPERATOR),
    ):
        with pytest.raises(NotFoundError) as caught:
            call()
        assert caught.value.reason == "NODE_NOT_FOUND"
    with pytest.raises(NotFoundError) as site:
        locate_files(world.context, "MOON", [FileRef("a")])
    assert site.value.reason == "SITE_NOT_FOUND"


def test_nodes_are_shown_with_their_caches(world: World) -> None:
    world.keep(node_key(1), *make_inputs(3, GB))
    world.pilot(2)
    views = read.list_nodes(world.context, None, 9, "")
    assert [view.cache.file_count if view.cache else None for view in views] == [3, None]


def test_without_memcached_work_goes_on_and_says_that_nothing_is_known(
    sqlite_database: Database, memcached_factory: MemcachedFactory
) -> None:
    server = memcached_factory.start()
    catalog = catalog_on(memcached_store([server]))
    world = World(sqlite_database, catalog)
    world.queue(locality_wait=timedelta(minutes=2))
    submit_files(world, 2)
    world.keep(node_key(2), make_input(1, GB))
    pilot = world.pilot(1)
    world.pilot(2)
    server.kill()
    grant = world.take(pilot, cache=CacheState(EPOCH, 1, 1))
    assert grant.match.locality is Locality.UNKNOWN
    assert "did not answer" in grant.explanation
    assert world.renew(pilot, grant).cancel is False
    assert world.why(2).shares == []
    assert not any(view.catalog_answered for view in read.list_nodes(world.context, None, 9, ""))
    with pytest.raises(UnavailableError) as caught:
        get_cache(world.context, node_key(2))
    assert caught.value.reason == "CATALOG_UNAVAILABLE"
    catalog.close()
