"""A pilot and its queue: changes that reach it, parameters that it goes by, revisions that it writes down."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn.broker.v1.job_pb2 import FILE_ROLE_LOG, FILE_ROLE_OUTPUT
from pandawn.common.v1 import common_pb2
from pandawn.queueconfig.v1 import parameters_pb2
from tests.fixtures.pilots import PilotPlace, StartPilot, wait_until
from tests.fixtures.tier3 import Tier3


def revision_on_disk(place: Path) -> int:
    document = json.loads((place / "queue.json").read_text())
    return int(document["queue"]["revision"])


def log_of(tier3: Tier3, job_id: int, name: str) -> str:
    (archive,) = tier3.stored(job_id, FILE_ROLE_LOG)
    with tarfile.open(archive) as tar:
        content = tar.extractfile(name)
        assert content is not None
        return content.read().decode()


def output_of(tier3: Tier3, job_id: int) -> str:
    (path,) = tier3.stored(job_id, FILE_ROLE_OUTPUT)
    return path.read_text()


def test_an_idle_pilot_of_a_queue_that_goes_offline_ends_at_once(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    # Without heartbeats that could tell it.
    pilot = start_pilot(tier3, heartbeat=600)
    pilot.wait_for_log("is at revision")
    tier3.apply_queue(status=parameters_pb2.QUEUE_STATUS_OFFLINE, state_reason="power cut at nine")
    assert pilot.wait() == 0
    assert f"queue {tier3.queue} is offline: power cut at nine" in pilot.log


def test_a_pilot_of_a_queue_that_goes_offline_finishes_what_it_runs(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    task = tier3.submit("until [ -f go ]; do sleep 0.2; done; echo done > out", outputs=["out"])
    waiting = tier3.submit("true")
    pilot = start_pilot(tier3)
    pilot.wait_for_log("payload starts")
    tier3.apply_queue(status=parameters_pb2.QUEUE_STATUS_OFFLINE)
    pilot.wait_for_log("takes no more jobs: queue")
    (directory,) = (pilot.work_dir / "jobs").iterdir()
    (directory / "work/go").touch()
    (job,) = tier3.finish(task)
    assert job.attempt == 1
    assert pilot.wait() == 0
    (other,) = tier3.jobs(waiting)
    assert other.state == common_pb2.JOB_STATE_ACTIVATED


@pytest.mark.parametrize(
    "status", [parameters_pb2.QUEUE_STATUS_BROKEROFF, parameters_pb2.QUEUE_STATUS_PAUSED]
)
def test_a_pilot_stays_with_a_queue_that_is_only_kept_from_new_work(
    tier3: Tier3, start_pilot: StartPilot, status: parameters_pb2.QueueStatus.ValueType
) -> None:
    pilot = start_pilot(tier3)
    pilot.wait_for_log("is at revision")
    before = revision_on_disk(pilot.work_dir)
    tier3.apply_queue(status=status)
    wait_until(lambda: revision_on_disk(pilot.work_dir) > before)
    tier3.apply_queue(status=parameters_pb2.QUEUE_STATUS_ONLINE)
    tier3.finish(tier3.submit("true"))
    assert pilot.is_running()


def test_a_job_goes_by_the_queue_as_it_was_when_it_was_given_out(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    tier3.apply_queue(
        environment=parameters_pb2.StringMap(values={"PLACE": "before", "OURS": "queue"})
    )
    script = 'echo "$PLACE $OURS" > out; until [ -f go ]; do sleep 0.2; done'
    task = tier3.submit(script, outputs=["out"], environment={"OURS": "task"})
    pilot = start_pilot(tier3)
    pilot.wait_for_log("payload starts")
    first = revision_on_disk(pilot.work_dir)
    tier3.apply_queue(
        environment=parameters_pb2.StringMap(values={"PLACE": "after"}), app_dir="/sw"
    )
    wait_until(lambda: revision_on_disk(pilot.work_dir) > first)
    (directory,) = (pilot.work_dir / "jobs").iterdir()
    (directory / "work/go").touch()
    (job,) = tier3.finish(task)
    assert output_of(tier3, job.job_id) == "before task\n"
    assert f"using revision {first} of queue {tier3.queue}" in log_of(
        tier3, job.job_id, "pilot.log"
    )
    assert json.loads(log_of(tier3, job.job_id, "job.json"))["queue_revision"] == str(first)
    assert tier3.last_attempt(job.job_id).queue_revision == first
    (later,) = tier3.finish(tier3.submit('echo "$PLACE $PANDAWN_APP_DIR" > out', outputs=["out"]))
    assert output_of(tier3, later.job_id) == "after /sw\n"
    assert tier3.last_attempt(later.job_id).queue_revision > first


def test_a_pilot_goes_on_with_the_queue_it_knows_while_the_server_is_away(
    own_tier3: Tier3, start_pilot: StartPilot
) -> None:
    own_tier3.apply_queue(lease_duration=Duration(seconds=60), setup_command="export FROM=queue")
    task = own_tier3.submit(
        "until [ -f go ]; do sleep 0.2; done; echo $FROM > out", outputs=["out"]
    )
    pilot = start_pilot(own_tier3)
    pilot.wait_for_log("payload starts")
    own_tier3.server.kill9()
    (directory,) = (pilot.work_dir / "jobs").iterdir()
    (directory / "work/go").touch()
    pilot.wait_for_log("lease check failed")
    own_tier3.server.start()
    (job,) = own_tier3.finish(task)
    assert (job.attempt, output_of(own_tier3, job.job_id)) == (1, "queue\n")
    # The stream is there again: the next change arrives.
    own_tier3.apply_queue(status=parameters_pb2.QUEUE_STATUS_OFFLINE)
    assert pilot.wait() == 0


def test_a_pilot_takes_no_job_after_the_window_for_further_jobs(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    tier3.apply_queue(multi_job_window=Duration(seconds=3))
    first = tier3.submit("sleep 4")
    pilot = start_pilot(tier3)
    pilot.wait_for_log("payload starts")
    second = tier3.submit("true")
    tier3.finish(first)
    assert pilot.wait() == 0
    assert "the queue's multi_job_window is over" in pilot.log
    (job,) = tier3.jobs(second)
    assert job.state == common_pb2.JOB_STATE_ACTIVATED


def test_inputs_are_looked_for_where_the_queue_says_and_kept_if_it_says_so(
    tier3: Tier3, start_pilot: StartPilot
) -> None:
    inputs = tier3.make_inputs(1)
    real = tier3.inputs.as_uri()
    for item in inputs:
        item.url = item.url.replace(real, "root://far.example.org//store")
    tier3.apply_queue(
        url_prefixes=parameters_pb2.StringMap(
            values={"root://far.example.org//store": real, "root://far": "file:///nowhere"}
        ),
        use_pcache=False,
    )
    start_pilot(tier3)
    for _ in range(2):
        (job,) = tier3.finish(tier3.submit("cat $1 > out", inputs, outputs=["out"]))
        assert (job.input_bytes, job.bytes_from_cache) == (1000, 0)


def test_a_file_is_tried_as_often_as_the_queue_says(tier3: Tier3, start_pilot: StartPilot) -> None:
    tier3.apply_queue(
        stage_out_attempts=1,
        storage_root="file:///proc/nowhere",
        lease_duration=Duration(seconds=60),
    )
    pilot = start_pilot(tier3)
    task_id = tier3.submit("echo > out", outputs=["out"])
    # The storage's trouble: the job waits for another time and another node.
    wait_until(lambda: tier3.jobs(task_id)[0].lost_attempts == 1)
    assert tier3.jobs(task_id)[0].error.reason == "STORAGE_NOT_MOUNTED"
    assert "retrying" not in pilot.log


@pytest.mark.parametrize(
    ("isolation", "user", "outcome"),
    [
        (parameters_pb2.PAYLOAD_ISOLATION_AUTO, None, "another"),
        (parameters_pb2.PAYLOAD_ISOLATION_NONE, None, "same"),
        (parameters_pb2.PAYLOAD_ISOLATION_NONE, "4711", "4711"),
        (parameters_pb2.PAYLOAD_ISOLATION_REQUIRED, None, "another"),
        (parameters_pb2.PAYLOAD_ISOLATION_REQUIRED, "same", "refused"),
    ],
)
def test_payloads_run_under_the_account_that_queue_and_option_say(
    tier3: Tier3,
    start_pilot: StartPilot,
    isolation: parameters_pb2.PayloadIsolation.ValueType,
    user: str | None,
    outcome: str,
) -> None:
    tier3.apply_queue(payload_isolation=isolation)
    pilot = start_pilot(tier3, payload_user=user)
    if outcome == "refused":
        assert pilot.wait() == 2
        assert "requires payloads to run under another account" in pilot.log
        return
    (job,) = tier3.finish(tier3.submit("id -u > out", outputs=["out"]))
    uid = output_of(tier3, job.job_id).strip()
    assert uid == {"another": uid, "same": "0"}.get(outcome, outcome)
    assert (uid == "0") is (outcome == "same")


def test_a_pilot_knows_its_queue_from_its_last_life(
    own_tier3: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    place = PilotPlace(pilot_root / "p")
    pilot = start_pilot(own_tier3, place=place)
    pilot.wait_for_log("is at revision")
    revision = revision_on_disk(place.work_dir)
    pilot.kill9()
    own_tier3.server.kill9()
    again = start_pilot(own_tier3, place=place, connect_timeout=1)
    assert again.wait() == 4
    assert revision_on_disk(place.work_dir) == revision
    own_tier3.server.start()
    time.sleep(0.1)
    start_pilot(own_tier3, place=place)
    own_tier3.finish(own_tier3.submit("true"))
