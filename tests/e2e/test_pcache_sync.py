"""The real pcache, `pandawn-pcache-hook sync` and a real server: after each sync the catalog is the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.memcached import MemcachedFactory, pool_url
from tests.fixtures.pcache import Pcache
from tests.fixtures.pilots import wait_until
from tests.fixtures.server import PandawnServer, StartServer

TRANSFERRED, HIT = 0, 1


def test_what_pcache_fetched_and_what_it_served_again_is_in_the_catalog(
    server: PandawnServer, pcache: Pcache
) -> None:
    one, two = pcache.make("mc/one.root", "data/two.root")
    assert [pcache.get(one), pcache.get(two), pcache.get(one)] == [TRANSFERRED, TRANSFERRED, HIT]
    assert pcache.synced(server) == {"one.root": 1000, "two.root": 1000} == pcache.on_disk()
    (three,) = pcache.make("mc/three.root", size=5)
    assert [pcache.get(three), pcache.get(two)] == [TRANSFERRED, HIT]
    epoch = pcache.epoch(server)
    assert (
        pcache.synced(server) == {**pcache.in_catalog(server), "three.root": 5} == pcache.on_disk()
    )
    assert pcache.epoch(server) == epoch


def test_what_pcache_removed_over_its_water_mark_leaves_the_catalog(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    files = pcache.make(*(f"f{number}" for number in range(8)))
    for path in files:
        assert pcache.get(path) == TRANSFERRED
    assert len(pcache.synced(shared_server)) == 8
    (new,) = pcache.make("new")
    assert pcache.get(new, "--max-space=6000") == TRANSFERRED
    pcache.wait_for_cleaner()
    assert len(pcache.on_disk()) < 8
    assert pcache.synced(shared_server) == pcache.on_disk()


def test_a_wiped_cache_is_a_new_epoch_and_an_empty_inventory(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    pcache.synced(shared_server)
    first = pcache.epoch(shared_server)
    pcache.wipe()
    assert pcache.synced(shared_server) == {}
    second = pcache.epoch(shared_server)
    assert pcache.get(two) == TRANSFERRED
    assert pcache.synced(shared_server) == {"two": 1000}
    assert len({first, second, pcache.epoch(shared_server)}) == 3


def test_a_cache_wiped_and_filled_again_between_two_syncs_is_a_new_epoch(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    pcache.synced(shared_server)
    before = pcache.epoch(shared_server)
    # pcache's own way of it: CACHE/ gets another name and is removed in the background.
    assert pcache.run("--flush-cache") == 0
    assert pcache.get(two) == TRANSFERRED
    assert pcache.synced(shared_server) == {"two": 1000}
    assert pcache.epoch(shared_server) != before


def test_a_file_on_its_way_is_not_reported_and_one_that_failed_never(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    (path,) = pcache.make("one")
    fifo = pcache.source / "slow"
    os.mkfifo(fifo)
    assert pcache.get(path, "--retry=0") == TRANSFERRED
    assert pcache.run("--retry=0", "cp", pcache.source / "missing", pcache.jobs / "m") == 3
    copier = pcache.source / "copier"
    copier.write_text('#!/bin/sh\nprintf part > "$2"\ncat "$1" >> "$2"\n')
    copier.chmod(0o755)
    transfer = pcache.start(copier, fifo, pcache.jobs / "slow")
    with fifo.open("wb") as content:
        wait_until((pcache.entry(fifo) / "xfer").exists)
        assert pcache.synced(shared_server) == {"one": 1000}
        content.write(b"ial")
    transfer.communicate(timeout=60)
    assert pcache.synced(shared_server) == {"one": 1000, "slow": 7} == pcache.on_disk()


def test_two_jobs_that_want_one_file_at_once_and_two_syncs_at_once(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    files = pcache.make(*(f"f{number}" for number in range(6)))
    fetching = [
        pcache.start("cp", path, pcache.jobs / f"{path.name}.{job}")
        for path in files
        for job in range(2)
    ]
    syncing = [
        subprocess.Popen(
            pcache.sync_command(shared_server), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for fetch in fetching:
        fetch.communicate(timeout=60)
    assert sorted(fetch.returncode for fetch in fetching) == [TRANSFERRED] * 6 + [HIT] * 6
    for sync in syncing:
        said = sync.communicate(timeout=60)
        assert (sync.returncode, said[1]) == (0, b"")
    assert pcache.synced(shared_server) == pcache.on_disk() == {f"f{n}": 1000 for n in range(6)}


def test_a_lost_state_file_makes_one_inventory_due_and_nothing_wrong(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    pcache.get(two)
    pcache.synced(shared_server)
    shutil.rmtree(pcache.scratch / "pandawn-pcache")
    shutil.rmtree(pcache.entry(one))
    assert pcache.synced(shared_server) == {"two": 1000}
    for path in (pcache.scratch / "pandawn-pcache").glob("**/*.json"):
        path.write_text(path.read_text()[:40])
    assert pcache.synced(shared_server) == {"two": 1000}


def test_a_catalog_that_lost_the_node_gets_it_back_with_the_next_sync(
    start_server: StartServer, memcached_factory: MemcachedFactory, pcache: Pcache
) -> None:
    memcached = memcached_factory.start()
    server = start_server(catalog=pool_url([memcached]))
    (one,) = pcache.make("one")
    pcache.get(one)
    pcache.synced(server)
    memcached.stop()
    memcached.start()
    wait_until(lambda: pcache.sync(server).returncode == 0)
    assert pcache.in_catalog(server) == {"one": 1000}


def test_a_server_that_is_away_ends_a_sync_with_4_and_the_next_one_tells_all(
    embedded_server: PandawnServer, pcache: Pcache
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    pcache.synced(embedded_server)
    embedded_server.kill9()
    pcache.get(two)
    shutil.rmtree(pcache.entry(one))
    done = pcache.sync(embedded_server, "--timeout=0.5")
    assert done.returncode == 4
    assert embedded_server.address in done.stderr
    embedded_server.start()
    assert pcache.synced(embedded_server) == {"two": 1000}


def test_a_file_that_a_job_wrote_to_is_seen_by_the_next_deep_look(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    (one,) = pcache.make("one")
    pcache.get(one)
    pcache.synced(shared_server)
    data = pcache.entry(one) / "data"
    data.write_bytes(b"short")
    index = pcache.scratch / "pandawn-pcache" / "entries.json"
    text = index.read_text()
    index.write_text(text.replace('"deep_time": ', '"deep_time": 1, "deep_time_was": '))
    assert pcache.synced(shared_server) == {"one": 5}


def test_names_come_from_the_source_the_guid_file_and_rucios_paths(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    rucio = "rucio/user/anna/43/c2/hist.root"
    paths = pcache.make("deep/er/one.root", rucio, "rucio/mc/00/00/not.hashed")
    for path in paths:
        pcache.get(path, "--guid=ABCD")
    assert sorted(pcache.synced(shared_server)) == ["hist.root", "not.hashed", "one.root"]
    assert "er/one.root" in pcache.synced(shared_server, "--lfn-depth=2")
    # As the last time, where nothing is said.
    assert "er/one.root" in pcache.synced(shared_server)
    pcache.synced(shared_server, "--rucio")
    assert {f.lfn: (f.scope, f.guid) for f in pcache.listed(shared_server)} == {
        "hist.root": ("user.anna", "abcd"),
        "not.hashed": ("", "abcd"),
        "one.root": ("", "abcd"),
    }


@pytest.mark.parametrize(
    "name",
    ["new\nline", b"latin\xe9".decode(errors="surrogateescape")],
    ids=["control", "bytes"],
)
def test_a_name_that_the_catalog_refuses_is_left_out_and_keeps_nothing_else_from_it(
    shared_server: PandawnServer, pcache: Pcache, name: str
) -> None:
    odd, plain = pcache.make(name, "plain")
    assert [pcache.get(odd), pcache.get(plain)] == [TRANSFERRED, TRANSFERRED]
    done = pcache.sync(shared_server)
    assert done.returncode == 0, done
    assert "1 without a usable name" in done.stdout
    assert pcache.in_catalog(shared_server) == {"plain": 1000}


def test_directories_named_as_pcaches_own_files_are_walked(
    shared_server: PandawnServer, pcache: Pcache
) -> None:
    names = ["data/src/guid", "data/data/data", "xfer/mru"]
    for path in pcache.make(*names):
        assert pcache.get(path) == TRANSFERRED
    assert pcache.synced(shared_server) == {"guid": 1000, "data": 1000, "mru": 1000}


def test_of_two_copies_of_one_name_one_may_go(shared_server: PandawnServer, pcache: Pcache) -> None:
    old, new = pcache.make("siteA/one.root", size=5) + pcache.make("siteB/one.root", size=7)
    pcache.get(old)
    time.sleep(0.05)
    pcache.get(new)
    assert pcache.synced(shared_server) == {"one.root": 7}
    shutil.rmtree(pcache.entry(new))
    assert pcache.synced(shared_server) == {"one.root": 5}


def test_a_scratch_directory_that_is_not_there_is_wrong_usage(
    shared_server: PandawnServer, pcache: Pcache, tmp_path: Path
) -> None:
    done = pcache.sync(shared_server, f"--scratch-dir={tmp_path / 'nowhere'}")
    assert done.returncode == 2
    assert str(tmp_path / "nowhere") in done.stderr
