"""Jobs of a real server on real pilots: what comes out, what is cached, how they are ended."""

from __future__ import annotations

import signal
import tarfile
import zlib
from pathlib import Path

import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn.broker.v1 import broker_pb2
from pandawn.broker.v1.job_pb2 import FILE_ROLE_LOG, FILE_ROLE_OUTPUT, Job
from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1.filecatalog_pb2 import FlushCacheRequest
from tests.fixtures.pilots import PilotPlace, StartPilot, wait_until
from tests.fixtures.tier3 import Tier3, path_of

COUNT_BYTES = '#!/bin/sh\ncat "$@" | wc -c > bytes.txt\n'


def run_jobs(jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if job.kind == common_pb2.JOB_KIND_RUN]


def test_run_jobs_use_the_library_of_their_build_job_and_store_their_outputs(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit(
        "",
        tier3.make_inputs(4, size=500),
        command=["./count.sh", "%IN"],
        files_per_job=2,
        outputs=["bytes.txt"],
        build=True,
        build_command=["mv", "count.in", "count.sh"],
        sandbox_id=tier3.upload({"count.in": COUNT_BYTES}),
    )
    start_pilot(tier3, max_jobs=2)
    jobs = run_jobs(tier3.finish(task))
    assert len(jobs) == 2
    for job in jobs:
        (output,) = [f for f in tier3.job(job.job_id).files if f.role == FILE_ROLE_OUTPUT]
        content = path_of(output.url).read_bytes()
        assert content.strip() == b"1000"
        assert output.file.size_bytes == len(content)
        assert output.file.checksum == f"adler32:{zlib.adler32(content):08x}"
        assert tier3.storage in path_of(output.url).parents


def test_without_a_build_job_each_job_unpacks_the_users_code_itself(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit(
        "",
        tier3.make_inputs(2, size=300),
        command=["./count.sh", "%IN"],
        outputs=["bytes.txt"],
        sandbox_id=tier3.upload({"count.sh": COUNT_BYTES}),
    )
    start_pilot(tier3, no_cache=True)
    for job in tier3.finish(task):
        (output,) = tier3.stored(job.job_id, FILE_ROLE_OUTPUT)
        assert output.read_text().strip() == "300"
        assert job.bytes_from_cache == 0


def test_the_log_tarball_tells_what_payload_and_pilot_said(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit("echo hello; env; pwd; echo trouble >&2; exit 3", max_attempts=1)
    start_pilot(tier3)
    (job,) = tier3.wait_for_end(task)
    (log,) = tier3.stored(job.job_id, FILE_ROLE_LOG)
    with tarfile.open(log) as tar:
        texts = {m.name: tar.extractfile(m).read().decode() for m in tar}  # type: ignore[union-attr]
    assert sorted(texts) == ["job.json", "payload.stderr", "payload.stdout", "pilot.log"]
    assert "hello" in texts["payload.stdout"]
    assert f"PANDAWN_JOB_ID={job.job_id}\n" in texts["payload.stdout"]
    assert "secret" not in texts["payload.stdout"]
    assert texts["payload.stderr"] == "trouble\n"
    assert "payload ended with status 3" in texts["pilot.log"]


def test_a_second_task_finds_its_files_on_the_node_and_the_catalog_knows_them(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    inputs = tier3.make_inputs(3, size=2000)
    pilot = start_pilot(tier3, node="WN07.Example.org")
    first = tier3.finish(tier3.submit('cat "$@" > /dev/null', inputs, files_per_job=3))
    assert sum(job.bytes_from_cache for job in first) == 0
    names = sorted(item.file.lfn for item in inputs)
    wait_until(lambda: tier3.cached("wn07.example.org") == names)
    second = tier3.finish(tier3.submit('cat "$@" > /dev/null', inputs, files_per_job=3))
    assert [(job.input_bytes, job.bytes_from_cache) for job in second] == [(6000, 6000)]
    assert "from the cache" in pilot.log


def test_a_flushed_catalog_is_filled_again_by_the_node_itself(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    inputs = tier3.make_inputs(2)
    start_pilot(tier3)
    tier3.finish(tier3.submit("true", inputs, files_per_job=2))
    names = sorted(item.file.lfn for item in inputs)
    wait_until(lambda: tier3.cached("wn00") == names)
    tier3.catalog.FlushCache(FlushCacheRequest(site=tier3.site, node="wn00", request_id="flush"))
    wait_until(lambda: tier3.cached("wn00") == names)


def test_a_file_removed_from_a_full_cache_is_removed_from_the_catalog(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    start_pilot(tier3, cache_size=2500, cache_low_water=0.5)
    for _ in range(3):
        (new,) = inputs = tier3.make_inputs(1)
        tier3.finish(tier3.submit("true", inputs))
        wait_until(lambda new=new: new.file.lfn in tier3.cached("wn00"))  # type: ignore[misc]
    wait_until(lambda: tier3.cached("wn00") == [new.file.lfn])


def test_pilots_of_one_node_share_its_cache(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    cache = pilot_root / "shared"
    for number in range(2):
        place = PilotPlace(pilot_root / f"place{number}", cache)
        start_pilot(tier3, place=place, node="wn00")
    inputs = tier3.make_inputs(1, size=50_000)
    # The same file for each of several jobs, at the same time.
    tasks = [tier3.submit("sleep 0.5", inputs) for _ in range(4)]
    jobs = [job for task in tasks for job in tier3.finish(task)]
    assert sum(job.bytes_from_cache for job in jobs) == 3 * 50_000
    wait_until(lambda: tier3.cached("wn00") == [inputs[0].file.lfn])


@pytest.mark.parametrize(
    ("script", "queue", "reason", "exit_code"),
    [
        ("exit 3", {}, "PAYLOAD_FAILED", 3),
        ("kill -KILL $$", {}, "PAYLOAD_KILLED", 137),
        ("sleep 600", {"max_wall_time": Duration(seconds=1)}, "WALL_TIME_EXCEEDED", 143),
        ("yes > endless", {"max_work_dir_bytes": 30_000_000}, "WORK_DIR_TOO_LARGE", None),
        ("yes", {"max_work_dir_bytes": 30_000_000}, "WORK_DIR_TOO_LARGE", None),
        ("exec no-such-program", {}, "PAYLOAD_FAILED", 127),
    ],
)
def test_a_payload_that_goes_wrong_fails_its_job_with_the_reason(
    tier3: Tier3,
    start_pilot: StartPilot,
    script: str,
    queue: dict[str, object],
    reason: str,
    exit_code: int | None,
) -> None:
    if queue:
        tier3.apply_queue(**queue)
    task = tier3.submit(script, max_attempts=1)
    start_pilot(tier3)
    (job,) = tier3.wait_for_end(task)
    attempt = tier3.last_attempt(job.job_id)
    assert (job.state, job.error.reason) == (common_pb2.JOB_STATE_FAILED, reason), str(job)
    assert attempt.HasField("exit_code")
    if exit_code is not None:
        assert attempt.exit_code == exit_code
    assert tier3.stored(job.job_id, FILE_ROLE_LOG), "the log is stored of failed jobs, too"


def test_a_missing_program_is_told_as_a_shell_would(tier3: Tier3, start_pilot: StartPilot) -> None:
    task = tier3.submit("", command=["analyse-it"], max_attempts=3)
    start_pilot(tier3)
    (job,) = tier3.wait_for_end(task)
    assert job.error.reason == "PROGRAM_NOT_FOUND"
    assert tier3.last_attempt(job.job_id).exit_code == 127


def test_a_declared_output_that_is_missing_fails_the_job(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit("true", outputs=["histogram.root"], max_attempts=1)
    start_pilot(tier3)
    (job,) = tier3.wait_for_end(task)
    assert job.error.reason == "OUTPUT_MISSING"
    assert "histogram.root" in job.error.text


def test_an_input_that_is_gone_or_has_changed_fails_the_job(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    gone, changed = tier3.make_inputs(2)
    path_of(gone.url).unlink()
    path_of(changed.url).write_bytes(b"new")
    first = tier3.submit("true", [gone], max_attempts=1)
    second = tier3.submit("true", [changed], max_attempts=1)
    start_pilot(tier3)
    assert tier3.wait_for_end(first)[0].error.reason == "INPUT_MISSING"
    assert tier3.wait_for_end(second)[0].error.reason == "INPUT_CHANGED"


def payload_processes(pilot_pid: int) -> list[psutil.Process]:
    """All below the pilot but its own, which copy files and wait for the next."""
    try:
        below = psutil.Process(pilot_pid).children(recursive=True)
        return [process for process in below if "mover" not in " ".join(process.cmdline())]
    except psutil.NoSuchProcess:
        return []


def test_a_cancel_reaches_a_running_payload(tier3: Tier3, start_pilot: StartPilot) -> None:
    task = tier3.submit("trap '' TERM; sleep 600 & sleep 600; sleep 600")
    pilot = start_pilot(tier3)
    job_id = tier3.only_job(task)
    pilot.wait_for_log("payload starts")
    wait_until(lambda: len(payload_processes(pilot.pid)) >= 3)
    tier3.broker.CancelTask(broker_pb2.CancelTaskRequest(task_id=task))
    tier3.wait_for_state(job_id, common_pb2.JOB_STATE_CANCELLED)
    wait_until(lambda: payload_processes(pilot.pid) == [])
    # The pilot lives on.
    tier3.finish(tier3.submit("true"))


def test_the_first_signal_lets_jobs_finish_and_takes_no_more(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    first = tier3.submit("sleep 2")
    pilot = start_pilot(tier3)
    pilot.wait_for_log("payload starts")
    second = tier3.submit("true")
    pilot.signal(signal.SIGTERM)
    assert pilot.wait() == 0
    tier3.finish(first)
    assert tier3.jobs(second)[0].state == common_pb2.JOB_STATE_ACTIVATED


def test_the_second_signal_ends_jobs_and_they_are_tried_again(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit('[ "$PANDAWN_ATTEMPT" -gt 1 ] || sleep 600')
    pilot = start_pilot(tier3)
    pilot.wait_for_log("payload starts")
    pilot.signal(signal.SIGTERM)
    pilot.wait_for_log("takes no more jobs")
    pilot.signal(signal.SIGTERM)
    assert pilot.wait() == 5
    attempts = tier3.job(tier3.only_job(task)).attempts
    assert attempts[0].error.reason == "PILOT_STOPPED"
    start_pilot(tier3)
    assert tier3.finish(task)[0].attempt == 2


def test_a_pilot_ends_when_it_was_idle_for_long_enough(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit("true")
    pilot = start_pilot(tier3, idle_exit=1)
    assert pilot.wait() == 0
    tier3.finish(task)
    assert "takes no more jobs: idle" in pilot.log
