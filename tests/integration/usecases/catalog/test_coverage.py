"""How much of some files is where: counted once each, by name and size, over all nodes of a site."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.catalog.inventory import CachedFile
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.storage.database import Database
from pandawn_server.usecases.catalog.coverage import Amount, Coverage, cover_files, cover_task
from pandawn_server.usecases.catalog.pins import pin_files
from tests.fixtures.factories import SITE, make_cached, make_input, make_inputs, node_key
from tests.fixtures.world import World

GB = 10**9
ONE, TWO, THREE = (node_key(number).node for number in (1, 2, 3))


@pytest.fixture
def world(sqlite_database: Database, catalog: Catalog) -> World:
    """A server with one queue, on each kind of catalog in turn."""
    world = World(sqlite_database, catalog)
    world.queue()
    return world


def wanted(*numbers: int, size_bytes: int = GB) -> list[CachedFile]:
    files = [make_input(number, size_bytes) for number in numbers]
    return list(map(make_cached, files))


def cover(world: World, files: list[CachedFile]) -> Coverage:
    return cover_files(world.context, SITE, files)


def test_files_are_counted_by_the_number_of_nodes_that_hold_them(world: World) -> None:
    world.keep(node_key(1), *make_inputs(3, GB))
    world.keep(node_key(2), make_input(1, GB))
    world.keep(node_key(3), make_input(9, GB))

    found = cover(world, wanted(1, 2, 4))
    assert found.total == Amount(3, 3 * GB)
    assert found.copies == {0: Amount(1, GB), 1: Amount(1, GB), 2: Amount(1, GB)}
    assert found.shares == [(ONE, Amount(2, 2 * GB)), (TWO, Amount(1, GB))]


def test_a_file_named_twice_is_counted_once(world: World) -> None:
    world.keep(node_key(1), make_input(1, GB))
    assert cover(world, wanted(1, 1)).total == Amount(1, GB)


def test_a_file_of_another_size_does_not_count(world: World) -> None:
    world.keep(node_key(1), make_input(1, GB))
    found = cover(world, wanted(1, size_bytes=GB + 1))
    assert found.copies == {0: Amount(1, GB + 1)}
    assert found.shares == []


def test_a_file_without_a_size_counts_with_that_of_a_node(world: World) -> None:
    world.keep(node_key(1), make_input(1, GB))
    found = cover(world, [replace(file, size_bytes=0) for file in wanted(1, 2)])
    assert found.total == Amount(2, GB)
    assert found.copies == {0: Amount(1, 0), 1: Amount(1, GB)}


def test_without_a_version_any_file_of_the_name_counts_once(world: World) -> None:
    old, new = make_input(1, GB), make_input(1, GB, version="site")
    world.keep(node_key(1), old, new)
    world.keep(node_key(2), new)

    any_version = [replace(file, version="") for file in wanted(1)]
    assert cover(world, any_version).copies == {2: Amount(1, GB)}
    assert cover(world, wanted(1)).copies == {1: Amount(1, GB)}
    assert cover(world, wanted(1)).shares == [(ONE, Amount(1, GB))]


def test_of_a_task_only_what_dispatch_counts_as_local_is_covered(world: World) -> None:
    known, unknown = make_input(1, GB), make_input(2, GB, checksum="", version="")
    task_id = world.submit(inputs=(known, unknown)).task.task_id
    world.keep(node_key(1), known, unknown, make_input(2, GB))

    found = cover_task(world.context, "", task_id, LOCAL_OPERATOR)
    assert found.copies == {0: Amount(1, GB), 1: Amount(1, GB)}


def test_one_file_is_found_in_a_large_cache(world: World) -> None:
    world.keep(node_key(1), *make_inputs(100, GB))
    assert cover(world, wanted(70)).shares == [(ONE, Amount(1, GB))]
    assert cover(world, wanted(101)).shares == []


def test_pinned_files_count(world: World) -> None:
    world.keep(node_key(1), make_input(1, GB))
    pin_files(world.context, node_key(1), wanted(1, 2))
    pin_files(world.context, node_key(2), wanted(2))
    found = cover(world, wanted(1, 2))
    assert found.shares == [(ONE, Amount(2, 2 * GB)), (TWO, Amount(1, GB))]


def test_nodes_with_most_bytes_come_first(world: World) -> None:
    world.keep(node_key(1), make_input(1, GB), make_input(2, GB))
    world.keep(node_key(2), make_input(3, 5 * GB))
    world.keep(node_key(3), make_input(1, GB), make_input(2, GB))
    files = [*wanted(1, 2), *wanted(3, size_bytes=5 * GB)]
    assert [node for node, _ in cover(world, files).shares] == [TWO, ONE, THREE]


def test_a_task_s_inputs_are_looked_for_at_its_own_site(world: World) -> None:
    task = world.submit(inputs=make_inputs(3, GB), files_per_job=2).task
    world.keep(node_key(1), make_input(3, GB))
    found = cover_task(world.context, "", task.task_id, LOCAL_OPERATOR)
    assert (found.site, found.total) == (SITE, Amount(3, 3 * GB))
    assert found.copies == {0: Amount(2, 2 * GB), 1: Amount(1, GB)}


def test_a_task_without_inputs_is_covered_by_nobody(world: World) -> None:
    world.keep(node_key(1), make_input(3, GB))
    task = world.submit(inputs=(), job_count=1).task
    found = cover_task(world.context, "", task.task_id, LOCAL_OPERATOR)
    assert (found.total, found.copies, found.shares) == (Amount(), {}, [])


def test_tasks_and_sites_that_are_not_there_are_errors(world: World) -> None:
    with pytest.raises(NotFoundError, match="no task 9"):
        cover_task(world.context, "", 9, LOCAL_OPERATOR)
    with pytest.raises(NotFoundError, match="no node of site 'NOWHERE'"):
        cover_files(world.context, "NOWHERE", wanted(1))
