"""Real jobs on real pilots whose files lie on real XRootD servers: elsewhere, or on the node itself."""

from __future__ import annotations

import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from pandawn.broker.v1.job_pb2 import FILE_ROLE_LOG, FILE_ROLE_OUTPUT
from pandawn.broker.v1.task_pb2 import TaskInput
from pandawn.common.v1.common_pb2 import JOB_STATE_WAITING, File
from pandawn.filecatalog.v1.filecatalog_pb2 import GetCacheRequest
from pandawn_pilot.hooks.pcache_hook import main as run_hook
from tests.fixtures.pilots import PilotPlace, StartPilot, wait_until
from tests.fixtures.tier3 import Tier3
from tests.fixtures.xrootd import EXPORT, XrootdFactory, XrootdServer

READ_ALL = 'cat "$@" > all'


def put(xrootd: XrootdServer, name: str, content: bytes = b"content") -> TaskInput:
    """A file on a server, as a task names it, with its checksum."""
    file = File(
        lfn=Path(name).name,
        size_bytes=len(content),
        checksum=f"adler32:{zlib.adler32(content):08x}",
    )
    return TaskInput(file=file, url=xrootd.put(name, content))


def tell(tier3: Tier3, xrootd: XrootdServer, node: str, *options: str) -> None:
    """Tells the catalog what a node's server holds."""
    about = ["--server", tier3.server.address, "--site", tier3.site, "--node", node]
    assert run_hook(["xrootd", *about, "--url", xrootd.url, "--prefix", EXPORT, *options]) == 0


def fail(tier3: Tier3, inputs: list[TaskInput]) -> str:
    """Runs a job that must fail; returns why it did."""
    task = tier3.submit(READ_ALL, inputs, max_attempts=1, files_per_job=len(inputs))
    (job,) = tier3.wait_for_end(task)
    assert job.error.text
    return job.error.reason


def test_files_come_by_way_of_the_cache_and_outputs_go_back(
    tier3: Tier3, start_pilot: StartPilot, xrootd: XrootdServer
) -> None:
    tier3.apply_queue(storage_root=f"{xrootd.top}/out")
    inputs = [put(xrootd, "mc/a.root", b"1"), put(xrootd, "mc/b ż%20.root", b"2")]
    start_pilot(tier3)
    for cached in (0, 2):
        task = tier3.submit(
            'cat "$@" > all', inputs, files_per_job=2, outputs=["all"], build=True,
            sandbox_id=tier3.upload({"x": ""}), build_command=["true"],
        )  # fmt: skip
        build, job = sorted(tier3.finish(task), key=lambda job: job.kind)
        assert job.bytes_from_cache == cached
        stored = {file.role: file for file in tier3.job(job.job_id).files if file.url}
        output = stored[FILE_ROLE_OUTPUT].url.removeprefix(xrootd.top + "/")
        assert (xrootd.files / output).read_bytes() == b"12"
        assert stored[FILE_ROLE_LOG].url.startswith(xrootd.top)
        assert [p for p in (xrootd.files / output).parent.iterdir() if p.suffix == ".part"] == []
        assert build.error.reason == ""
    wait_until(lambda: {"a.root", "b ż%20.root"} <= {*tier3.cached("wn00")})


def test_content_that_is_not_the_tasks_is_refused_and_not_kept(
    tier3: Tier3, start_pilot: StartPilot, xrootd: XrootdServer
) -> None:
    pilot = start_pilot(tier3)
    other, grown, gone = (put(xrootd, name) for name in ("other", "grown", "gone"))
    xrootd.put("other", b"CONTENT")
    xrootd.put("grown", b"content and more")
    xrootd.remove("gone")
    assert fail(tier3, [other]) == "INPUT_CHANGED"
    assert fail(tier3, [grown]) == "INPUT_CHANGED"
    assert fail(tier3, [gone]) == "INPUT_MISSING"
    assert list((pilot.cache_dir / "files").rglob("data")) == []
    assert list((pilot.cache_dir / "incoming").iterdir()) == []


def test_a_server_that_is_away_is_named_and_costs_the_attempt_and_not_the_job(
    tier3: Tier3, start_pilot: StartPilot, xrootd_factory: XrootdFactory
) -> None:
    server = xrootd_factory.start()
    inputs = [put(server, "a")]
    server.kill()
    task = tier3.submit(READ_ALL, inputs)
    pilot = start_pilot(tier3, no_cache=True)
    pilot.wait_for_log("failed: STORAGE_UNAVAILABLE")
    attempt, _, _ = pilot.log.partition("failed: STORAGE_UNAVAILABLE")
    assert f"127.0.0.1:{server.port}" in attempt
    # The queue allows two attempts (`stage_in_attempts`).
    assert attempt.count("retrying") == 1
    # The storage's trouble fails no job.
    tier3.wait_for_state(tier3.only_job(task), JOB_STATE_WAITING)


def test_a_server_that_comes_back_in_time_is_waited_for(
    tier3: Tier3, start_pilot: StartPilot, xrootd_factory: XrootdFactory
) -> None:
    server = xrootd_factory.start()
    task = tier3.submit(READ_ALL, [put(server, "a")])
    server.kill()
    pilot = start_pilot(tier3)
    pilot.wait_for_log("retrying")
    server.start()
    tier3.finish(task)


@pytest.mark.parametrize("cached", [True, False], ids=["with a cache", "without"])
def test_what_the_nodes_own_server_holds_is_read_there(
    tier3: Tier3,
    start_pilot: StartPilot,
    xrootd_factory: XrootdFactory,
    *,
    cached: bool,
) -> None:
    own, far = xrootd_factory.start("xrootd.chksum adler32"), xrootd_factory.start()
    same_path = put(far, "mc/same.root", b"1")
    moved = put(far, "mc/moved.root", b"22")
    # Elsewhere than where the task has it, only the content proves it.
    moved.file.checksum = f"sha256:{sha256(b'22').hexdigest()}"
    absent = put(far, "mc/absent.root", b"333")
    own.put("mc/same.root", b"1")
    own.put("deep/er/moved.root", b"22")
    if cached:
        pilot = start_pilot(tier3, node="wn05", local_xrootd=own.top)
    else:
        pilot = start_pilot(tier3, node="wn05", local_xrootd=own.top, no_cache=True)
    options = ["--cache-dir", str(pilot.cache_dir)] if cached else []
    tell(tier3, own, "wn05", *options, "--source-url", far.top, "--by-checksum")
    task = tier3.submit(READ_ALL, [same_path, moved, absent], files_per_job=3)
    (job,) = tier3.finish(task)
    assert (job.input_bytes, job.bytes_from_cache) == (6, 3)
    assert f"{own.top}/mc/same.root" in pilot.log
    assert f"{own.top}/deep/er/moved.root" in pilot.log
    if cached:
        # What came from afar is cached, what is on the node already is not.
        assert len(list((pilot.cache_dir / "files").rglob("data"))) == 1


def test_a_bad_copy_on_the_node_is_passed_over(
    tier3: Tier3, start_pilot: StartPilot, xrootd_factory: XrootdFactory
) -> None:
    own, far = xrootd_factory.start(), xrootd_factory.start()
    item = put(far, "a.root")
    own.put("a.root", b"CONTENT")
    pilot = start_pilot(tier3, local_xrootd=own.top)
    (job,) = tier3.finish(tier3.submit("grep -q content a.root", [item]))
    assert job.bytes_from_cache == 0
    assert "cannot be used" in pilot.log


def test_a_node_server_that_is_away_costs_a_job_nothing_but_time(
    tier3: Tier3, start_pilot: StartPilot, xrootd_factory: XrootdFactory
) -> None:
    own, far = xrootd_factory.start(), xrootd_factory.start()
    own.kill()
    pilot = start_pilot(tier3, local_xrootd=own.top)
    tier3.finish(tier3.submit(READ_ALL, [put(far, "a"), put(far, "b")], files_per_job=2))
    assert pilot.log.count("not using this node's XRootD server") == 1


def test_cache_and_server_of_a_node_are_one_inventory(
    tier3: Tier3, start_pilot: StartPilot, xrootd: XrootdServer, pilot_root: Path
) -> None:
    place = PilotPlace(pilot_root / "place")
    xrootd.put("served.root")
    both = ["--cache-dir", str(place.cache_dir)]
    tell(tier3, xrootd, "wn00", *both)
    start_pilot(tier3, place=place, node="wn00", local_xrootd=xrootd.top)
    (cached,) = inputs = tier3.make_inputs(1)
    tier3.finish(tier3.submit("true", inputs))
    names = sorted(["served.root", cached.file.lfn])
    wait_until(lambda: tier3.cached("wn00") == names)
    epoch = tier3.catalog.GetCache(GetCacheRequest(site=tier3.site, node="wn00")).cache.state.epoch
    # Either of them may report, and neither takes back what the other has told.
    xrootd.put("second.root")
    tell(tier3, xrootd, "wn00", *both)
    (more,) = inputs = tier3.make_inputs(1)
    tier3.finish(tier3.submit("true", inputs))
    names = sorted([*names, "second.root", more.file.lfn])
    wait_until(lambda: tier3.cached("wn00") == names)
    state = tier3.catalog.GetCache(GetCacheRequest(site=tier3.site, node="wn00")).cache.state
    assert state.epoch == epoch


def test_a_job_goes_to_the_node_whose_server_holds_its_files(
    tier3: Tier3, start_pilot: StartPilot, xrootd: XrootdServer
) -> None:
    inputs = [put(xrootd, f"{number}.root") for number in range(2)]
    tell(tier3, xrootd, "wn-near", "--source-url", xrootd.top, "--by-checksum")
    first = tier3.submit("true")
    second = tier3.submit("true", inputs, files_per_job=2)
    # Of two jobs the pilot gets the younger: the other has nothing here.
    pilot = start_pilot(tier3, node="wn-near", no_cache=True, local_xrootd=xrootd.top)
    (job,) = tier3.finish(second)
    assert tier3.last_attempt(job.job_id).job_match.local_bytes == 14
    assert job.bytes_from_cache == 14
    tier3.finish(first)
    assert pilot.log.index(f"job={job.job_id}") < pilot.log.index(f"job={tier3.only_job(first)}")


def test_a_wrong_local_server_is_refused_at_the_start(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    pilot = start_pilot(tier3, local_xrootd="localhost:1094/data")
    assert pilot.wait() == 2
    assert "root://node.example.org:1094//data/name" in pilot.log
