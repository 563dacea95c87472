"""Pilots that stage in by the site's real pcache: what is counted, and what the catalog says."""

from __future__ import annotations

import shlex

import pytest

from pandawn.broker.v1.job_pb2 import FILE_ROLE_OUTPUT
from pandawn.filecatalog.v1 import filecatalog_pb2 as wire
from pandawn.filecatalog.v1 import lookup_pb2
from tests.fixtures.pcache import Pcache
from tests.fixtures.pilots import PilotProcess, StartPilot, wait_until
from tests.fixtures.tier3 import Tier3, path_of

READ_ALL = 'cat "$@" > /dev/null'


def start(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache, *words: str, max_jobs: int = 1
) -> PilotProcess:
    command = shlex.join([*map(str, pcache.program), *pcache.options, *words])
    return start_pilot(
        tier3, cache="pcache", pcache_cmd=command, node=pcache.node, max_jobs=max_jobs
    )


def agree(tier3: Tier3, pcache: Pcache) -> None:
    wait_until(
        lambda: sorted(tier3.cached(pcache.node)) == sorted(pcache.on_disk()),
        lambda: f"disk {pcache.on_disk()}, catalog {tier3.cached(pcache.node)}",
    )


@pytest.mark.parametrize("copier", [(), ("cp",)], ids=["own", "cp"])
def test_the_second_job_has_its_files_out_of_the_pcache_and_the_bytes_say_so(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache, copier: tuple[str, ...]
) -> None:
    inputs = tier3.make_inputs(3, size=2000)
    pilot = start(tier3, start_pilot, pcache, *copier)
    (first,) = tier3.finish(tier3.submit(READ_ALL, inputs, files_per_job=3))
    assert (first.input_bytes, first.bytes_from_cache) == (6000, 0)
    assert len(pcache.on_disk()) == 3
    agree(tier3, pcache)
    (second,) = tier3.finish(tier3.submit(READ_ALL, inputs, files_per_job=3))
    assert (second.input_bytes, second.bytes_from_cache) == (6000, 6000)
    # One when there was no cache yet, one for the epoch that pcache's first file began: what went
    # with requests and heartbeats agreed with the catalog ever since.
    assert pilot.log.count("sent the inventory of") <= 2, pilot.log


def test_what_pcache_removes_leaves_the_catalog_and_the_pilot_fetches_it_again(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    start(tier3, start_pilot, pcache, "--max-space=2500")
    inputs = tier3.make_inputs(4)
    for item in inputs:
        tier3.finish(tier3.submit(READ_ALL, [item]))
    wait_until(lambda: len(pcache.on_disk()) < 3)
    agree(tier3, pcache)
    jobs = tier3.finish(tier3.submit(READ_ALL, inputs, files_per_job=4))
    assert 0 <= jobs[0].bytes_from_cache < jobs[0].input_bytes == 4000


def test_a_wiped_pcache_is_a_new_epoch_while_the_pilot_lives(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    start(tier3, start_pilot, pcache)
    one, two = tier3.make_inputs(2)
    tier3.finish(tier3.submit(READ_ALL, [one]))
    agree(tier3, pcache)
    request = wire.GetCacheRequest(site=tier3.site, node=pcache.node)
    before = tier3.catalog.GetCache(request).cache.state.epoch
    pcache.wipe()
    tier3.finish(tier3.submit(READ_ALL, [two]))
    wait_until(lambda: tier3.cached(pcache.node) == [two.file.lfn])
    assert tier3.catalog.GetCache(request).cache.state.epoch != before


def test_names_are_those_of_the_job_whoever_looks_at_the_tree(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    (item,) = tier3.make_inputs(1)
    item.file.lfn, item.file.scope = f"run7/{item.file.lfn}", "mc"
    start(tier3, start_pilot, pcache)
    tier3.finish(tier3.submit(READ_ALL, [item]))
    wait_until(lambda: tier3.cached(pcache.node) == [item.file.lfn])
    # A cron job of the site looks too, and has another rule for names that nobody gave.
    done = pcache.sync(tier3.server, f"--site={tier3.site}", "--lfn-depth=3")
    assert (done.returncode, done.stderr) == (0, "")
    request = lookup_pb2.ListNodeFilesRequest(site=tier3.site, node=pcache.node)
    (held,) = tier3.catalog.ListNodeFiles(request).files
    assert (held.file.scope, held.file.lfn) == ("mc", item.file.lfn)


def test_a_spoiled_file_in_the_pcache_is_transferred_anew(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    (item,) = tier3.make_inputs(1)
    pilot = start(tier3, start_pilot, pcache)
    tier3.finish(tier3.submit(READ_ALL, [item]))
    data = pcache.entry(path_of(item.url)) / "data"
    data.write_bytes(b"short")
    task = tier3.submit('cat "$@" > out', [item], outputs=["out"])
    (job,) = tier3.finish(task)
    assert (job.input_bytes, job.bytes_from_cache) == (1000, 0)
    (output,) = tier3.stored(job.job_id, FILE_ROLE_OUTPUT)
    assert output.read_bytes() == path_of(item.url).read_bytes() == data.read_bytes()
    assert "its pcache entry is invalid" in pilot.log


def test_an_input_that_is_gone_fails_the_job_with_the_reason_that_it_has_without_pcache(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    gone, changed = tier3.make_inputs(2)
    path_of(gone.url).unlink()
    path_of(changed.url).write_bytes(b"new")
    tasks = [tier3.submit(READ_ALL, [item], max_attempts=1) for item in (gone, changed)]
    start(tier3, start_pilot, pcache, "--retry=0")
    reasons = [tier3.wait_for_end(task)[0].error.reason for task in tasks]
    assert reasons == ["INPUT_MISSING", "INPUT_CHANGED"]
    assert pcache.on_disk() == {}


def test_a_pcache_that_does_not_work_costs_speed_only(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    inputs = tier3.make_inputs(1)
    pilot = start_pilot(
        tier3, pcache_cmd=f"no-such-pcache --scratch-dir={pcache.scratch}", node=pcache.node
    )
    (job,) = tier3.finish(tier3.submit(READ_ALL, inputs))
    assert job.bytes_from_cache == 0
    assert "is transferred without pcache" in pilot.log


def test_pilots_of_one_node_fetch_a_file_once(
    tier3: Tier3, start_pilot: StartPilot, pcache: Pcache
) -> None:
    for _ in range(2):
        start(tier3, start_pilot, pcache, max_jobs=2)
    (item,) = tier3.make_inputs(1, size=50_000)
    tasks = [tier3.submit("sleep 0.5", [item]) for _ in range(4)]
    jobs = [job for task in tasks for job in tier3.finish(task)]
    assert sum(job.bytes_from_cache for job in jobs) == 3 * 50_000
    agree(tier3, pcache)
