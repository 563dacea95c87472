"""Pilots and servers that die, lose each other, or run out of disk: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pandawn.broker.v1.job_pb2 import FILE_ROLE_LOG, FILE_ROLE_OUTPUT
from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn_pilot.cache.entry import Entry
from pandawn_pilot.cache.input_proof import wanted_file
from pandawn_pilot.node import locks
from pandawn_transports import transport_for
from tests.fixtures.pilots import PilotPlace, PilotProcess, StartPilot, wait_until
from tests.fixtures.ports import free_port
from tests.fixtures.tier3 import Tier3

SECOND_ATTEMPT_IS_QUICK = 'echo "$PANDAWN_ATTEMPT" > out; [ "$PANDAWN_ATTEMPT" -gt 1 ] || '


def place(root: Path, name: str = "place") -> PilotPlace:
    return PilotPlace(root / name)


def storage_files(tier3: Tier3) -> list[str]:
    return [path.name for path in tier3.storage.rglob("*") if path.is_file()]


def output_of(tier3: Tier3, job_id: int) -> str:
    (path,) = tier3.stored(job_id, FILE_ROLE_OUTPUT)
    return path.read_text()


def test_a_pilot_killed_in_stage_in_costs_one_attempt(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    inputs = tier3.make_inputs(1)
    task = tier3.submit("echo $PANDAWN_ATTEMPT > out", inputs, outputs=["out"])
    job_id, where = tier3.only_job(task), place(pilot_root)
    # Another pilot of the node is at the file: stage-in waits for it.
    url = inputs[0].url
    item = InputFile(file=inputs[0].file, url=url)
    lock = Entry.of(where.cache_dir, wanted_file(item, transport_for(url).look(url)).key).lock_path
    with locks.exclusive(lock):
        victim = start_pilot(tier3, place=where)
        victim.wait_for_log("stage-in of")
        tier3.wait_for_state(job_id, common_pb2.JOB_STATE_RUNNING)
        victim.kill9()
    start_pilot(tier3, place=where)
    (job,) = tier3.finish(task)
    assert job.attempt == 2
    assert output_of(tier3, job_id) == "2\n"


def test_a_pilot_killed_in_its_payload_leaves_no_process_and_costs_one_attempt(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit(
        f"{SECOND_ATTEMPT_IS_QUICK} (trap '' TERM; sleep 600 & sleep 600)", outputs=["out"]
    )
    victim = start_pilot(tier3)
    victim.wait_for_log("payload starts")
    wait_until(lambda: len(psutil.Process(victim.pid).children(recursive=True)) >= 4)
    processes = psutil.Process(victim.pid).children(recursive=True)
    victim.kill9()
    wait_until(lambda: not any(process.is_running() for process in processes))
    start_pilot(tier3)
    assert tier3.finish(task)[0].attempt == 2


def test_a_pilot_killed_in_stage_out_leaves_no_part_of_an_output_under_its_name(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    # A large file takes long enough to store that the pilot dies in the midst of it.
    task = tier3.submit(
        "echo $PANDAWN_ATTEMPT > out; [ $PANDAWN_ATTEMPT -gt 1 ] || truncate -s 8G out",
        outputs=["out"],
    )
    victim = start_pilot(tier3)
    victim.wait_for_log("stage-out of")
    victim.kill9()
    assert not any(name.endswith(".out") for name in storage_files(tier3))
    start_pilot(tier3)
    (job,) = tier3.finish(task)
    assert output_of(tier3, job.job_id) == f"{job.attempt}\n"
    assert not any(name.endswith(".part") for name in storage_files(tier3))


def test_a_pilot_started_again_in_its_directory_gives_back_what_it_held(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    task = tier3.submit(f"{SECOND_ATTEMPT_IS_QUICK} sleep 600", outputs=["out"])
    where = place(pilot_root)
    victim = start_pilot(tier3, place=where)
    victim.wait_for_log("payload starts")
    victim.kill9()
    again = start_pilot(tier3, place=where)
    again.wait_for_log("the server requeues 1 jobs")
    assert tier3.finish(task)[0].attempt == 2


def test_a_server_killed_while_a_payload_runs_costs_no_attempt(
    own_tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = own_tier3.submit("sleep 3; echo once >> out", outputs=["out"])
    job_id = own_tier3.only_job(task)
    pilot = start_pilot(own_tier3)
    pilot.wait_for_log("payload starts")
    own_tier3.server.kill9()
    pilot.wait_for_log("stage-out of")
    own_tier3.server.start()
    (job,) = own_tier3.finish(task)
    assert (job.job_id, job.attempt) == (job_id, 1)
    assert output_of(own_tier3, job_id) == "once\n"
    assert pilot.log.count("payload starts") == 1
    # And the pilot goes on with the next.
    own_tier3.finish(own_tier3.submit("true"))


def test_a_report_outlives_both_server_and_pilot(
    own_tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    # Without outputs: those become visible only once the server has said that the lease holds.
    task = own_tier3.submit("true")
    job_id, where = own_tier3.only_job(task), place(pilot_root)
    pilot = start_pilot(own_tier3, place=where)
    pilot.wait_for_log("payload starts")
    own_tier3.server.kill9()
    reports = where.work_dir / "reports"
    wait_until(lambda: any(reports.glob("*.json")))
    pilot.kill9()
    own_tier3.server.start()
    again = start_pilot(own_tier3, place=where)
    again.wait_for_log("reporting job")
    (job,) = own_tier3.finish(task)
    assert (job.job_id, job.attempt) == (job_id, 1)
    assert list(reports.glob("*.json")) == []


def test_an_output_becomes_visible_once_the_server_has_said_that_the_lease_holds(
    own_tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = own_tier3.submit("echo $PANDAWN_ATTEMPT > out; sleep 1", outputs=["out"])
    pilot = start_pilot(own_tier3)
    pilot.wait_for_log("payload starts")
    own_tier3.server.kill9()
    pilot.wait_for_log("lease check failed")
    assert list(own_tier3.storage.rglob("*.out")) == [], "only a part of another name"
    own_tier3.server.start()
    (job,) = own_tier3.finish(task)
    assert (job.attempt, output_of(own_tier3, job.job_id)) == (1, "1\n")


def test_what_a_batch_system_ends_is_told_at_once_and_is_no_failure_of_the_job(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    # The lease would hold for longer than the test has patience; the payload goes on for ever.
    task = tier3.submit("echo $PANDAWN_ATTEMPT > out; [ $PANDAWN_ATTEMPT -gt 1 ] || sleep 600")
    ended = start_pilot(tier3, environment={"SLURM_JOB_ID": "17"}, grace=4)
    ended.wait_for_log("payload starts")
    ended.signal(signal.SIGUSR1)
    assert ended.wait() == 5
    assert "PILOT_STOPPED" in ended.log
    assert "released" in ended.log or "reported, job state is now" in ended.log
    start_pilot(tier3)
    (job,) = tier3.finish(task)
    assert job.attempt == 2


def test_a_pilot_that_comes_back_too_late_drops_its_job_and_overwrites_nothing(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit(
        "echo $PANDAWN_ATTEMPT > out; [ $PANDAWN_ATTEMPT -gt 1 ] || sleep 12", outputs=["out"]
    )
    sleeper = start_pilot(tier3)
    sleeper.wait_for_log("payload starts")
    sleeper.signal(signal.SIGSTOP)
    start_pilot(tier3)
    (job,) = tier3.finish(task)
    assert job.attempt == 2
    sleeper.signal(signal.SIGCONT)
    sleeper.wait_for_log("dropped: the lease is over")
    assert output_of(tier3, job.job_id) == "2\n"
    assert sleeper.is_running()


def test_a_pilot_that_the_server_has_forgotten_registers_again(
    own_tier3: Tier3, start_pilot: StartPilot
) -> None:
    pilot = start_pilot(own_tier3)
    pilot.wait_for_log("registered for queue")
    # A server that lost its database: nothing else makes it forget a pilot so quickly.
    own_tier3.server.kill9()
    for path in own_tier3.server.log_file.parent.glob("*.db*"):
        path.unlink()
    own_tier3.server.start()
    own_tier3.apply_queue(site=own_tier3.site, storage_root=own_tier3.storage.as_uri())
    pilot.wait_for_log("registered for queue", count=2)
    own_tier3.finish(own_tier3.submit("true"))


@pytest.fixture
def small_disk(pilot_root: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    directory = pilot_root / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this container may not mount")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_cache_disk_that_fills_up_makes_room_or_is_passed_by(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path, small_disk: Path
) -> None:
    pilot = start_pilot(tier3, place=PilotPlace(pilot_root / "a", small_disk), cache_size="1G")
    for _ in range(3):
        # Three megabytes each: the third needs the room of an earlier one.
        tier3.finish(tier3.submit('cat "$@" > /dev/null', tier3.make_inputs(1, 3_000_000)))
    assert "evicted 1 files from the cache, freed 3000000 bytes" in pilot.log
    # Larger than the disk.
    tier3.finish(tier3.submit('cat "$@" > /dev/null', tier3.make_inputs(1, 9_000_000)))
    assert "is not cached" in pilot.log


def test_inputs_that_fit_nowhere_fail_with_the_reason_before_a_byte_is_copied(
    tier3: Tier3, start_pilot: StartPilot, small_disk: Path
) -> None:
    task = tier3.submit("true", tier3.make_inputs(1, 9_000_000), max_attempts=1)
    # The pilot says that it has room, or the job would not come here.
    pilot = start_pilot(tier3, place=PilotPlace(small_disk / "p"), disk="1G")
    (job,) = tier3.wait_for_end(task)
    assert job.error.reason == "NO_LOCAL_SPACE"
    assert "staged in" not in pilot.log


def test_a_payload_that_fills_the_disk_is_told_apart_and_the_pilot_goes_on(
    tier3: Tier3, start_pilot: StartPilot, small_disk: Path
) -> None:
    task = tier3.submit("cat /dev/zero > big", max_attempts=1)
    start_pilot(tier3, place=PilotPlace(small_disk / "p"))
    (job,) = tier3.wait_for_end(task)
    assert job.error.reason == "NO_LOCAL_SPACE"
    assert tier3.stored(job.job_id, FILE_ROLE_LOG), "the log is stored all the same"
    tier3.finish(tier3.submit("true"))


def ended(pilot: PilotProcess) -> tuple[int, str]:
    return pilot.wait(), pilot.log


def test_an_unknown_queue_ends_the_pilot_with_what_the_server_says(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    status, log = ended(start_pilot(tier3, queue="no-such-queue"))
    assert status == 3
    assert "QUEUE_NOT_FOUND" in log
    assert "'no-such-queue'" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("node", ["x" * 300, "wn\x07"], ids=["too long", "control character"])
def test_a_malformed_node_name_ends_the_pilot_with_what_the_server_says(
    tier3: Tier3, start_pilot: StartPilot, node: str
) -> None:
    status, log = ended(start_pilot(tier3, node=node))
    assert status == 3
    assert "INVALID_REQUEST" in log


def test_an_offline_queue_ends_the_pilot_in_peace(tier3: Tier3, start_pilot: StartPilot) -> None:
    from pandawn.queueconfig.v1.parameters_pb2 import QUEUE_STATUS_OFFLINE

    running = start_pilot(tier3)
    running.wait_for_log("registered")
    tier3.apply_queue(status=QUEUE_STATUS_OFFLINE)
    assert ended(running)[0] == 0
    status, log = ended(start_pilot(tier3))
    assert status == 0
    assert "offline" in log


def test_a_server_that_does_not_answer_ends_the_pilot_after_its_patience(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    status, log = ended(start_pilot(tier3, server=nowhere, connect_timeout=1))
    assert status == 4
    assert f"server {nowhere} cannot be reached" in log


def test_two_pilots_do_not_work_in_one_directory(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    where = place(pilot_root)
    start_pilot(tier3, place=where).wait_for_log("registered")
    status, log = ended(start_pilot(tier3, place=where))
    assert status == 2
    assert "another pilot uses" in log


def test_a_pilot_whose_cache_cannot_be_made_says_so_and_works_without(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    (pilot_root / "file").write_text("")
    pilot = start_pilot(tier3, cache_dir=pilot_root / "file" / "cache")
    (job,) = tier3.finish(tier3.submit("cat *.root > /dev/null", tier3.make_inputs(1)))
    assert job.bytes_from_cache == 0
    assert pilot.log.count("working without a cache") == 1
    assert str(pilot_root / "file" / "cache") in pilot.log


def test_a_directory_that_was_cleaned_up_under_its_job_is_no_failure_of_the_job(
    tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    """Something on the node removes what lies below /tmp: the pilot's directory, and the job's in it."""
    task = tier3.submit(f"{SECOND_ATTEMPT_IS_QUICK} sleep 600", outputs=["out"])
    where = place(pilot_root)
    pilot = start_pilot(tier3, place=where)
    pilot.wait_for_log("payload starts")
    payload: list[psutil.Process] = []

    def has_begun() -> bool:
        below = psutil.Process(pilot.pid).children(recursive=True)
        payload[:] = [process for process in below if process.cmdline() == ["sleep", "600"]]
        return bool(payload)

    wait_until(has_begun)
    shutil.rmtree(where.work_dir)
    payload[0].kill()
    pilot.wait_for_log("was deleted by another program and was created again")
    (job,) = tier3.finish(task)
    assert (job.failed_attempts, job.lost_attempts) == (0, 1)
    (first, _) = tier3.job(job.job_id).attempts
    assert first.error.reason == "NO_WORK_DIR"
    assert pilot.is_running()
