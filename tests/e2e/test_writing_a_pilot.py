"""docs/writing-a-pilot.md: its pilot in shell does whole tasks of a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn.broker.v1 import broker_pb2
from pandawn.broker.v1.job_pb2 import FILE_ROLE_LOG, FILE_ROLE_OUTPUT
from pandawn.common.v1 import common_pb2
from pandawn.monitor.v1 import monitor_pb2
from pandawn.monitor.v1.monitor_pb2_grpc import MonitorStub
from tests.fixtures.pilots import PATIENCE_S, wait_until
from tests.fixtures.secure import SecureSite
from tests.fixtures.tier3 import Tier3, path_of

DOCS = Path(__file__).parents[2] / "docs"
PILOT = DOCS / "examples" / "pilot.sh"
PROTOS = DOCS.parent / "proto"


class Start(Protocol):
    def __call__(
        self, site: Tier3, server: str = "", **environment: str
    ) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def start(grpcurl: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the pilot of the page."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(site: Tier3, server: str = "", **environment: str) -> subprocess.Popen[bytes]:
        # Each beat starts some programs: on a busy machine they take their time.
        site.apply_queue(
            lease_duration=Duration(seconds=60), heartbeat_interval=Duration(seconds=4)
        )
        work_dir = tmp_path / f"pilot-{len(started)}"
        search = f"{grpcurl.parent}:{os.environ['PATH']}"
        process = subprocess.Popen(
            ["/bin/bash", str(PILOT), server or site.server.address, site.queue, str(work_dir)],
            env={"PATH": search, "PROTOS": str(PROTOS), "NODE": f"wn{len(started)}", **environment},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)


def test_it_does_jobs_over_inputs_with_an_output_and_a_log(tier3: Tier3, start: Start) -> None:
    inputs = tier3.make_inputs(4)
    task = tier3.submit(
        'echo "$PANDAWN_JOB_INDEX of $PANDAWN_TASK_ID"; wc -c -- "$@" > sizes.txt',
        inputs,
        files_per_job=2,
        outputs=["sizes.txt"],
    )
    start(tier3)
    for number, job in enumerate(tier3.finish(task), start=1):
        (output,) = tier3.stored(job.job_id, FILE_ROLE_OUTPUT)
        lines = output.read_text().split()
        names = [item.file.lfn for item in inputs[2 * number - 2 : 2 * number]]
        assert [lines[1], lines[3]] == names
        assert lines[0] == lines[2] == "1000"
        (log,) = tier3.stored(job.job_id, FILE_ROLE_LOG)
        with tarfile.open(log) as tar:
            printed = tar.extractfile("stdout")
            assert printed is not None
            assert printed.read() == f"{number} of {task}\n".encode()


def test_it_builds_a_library_and_runs_jobs_from_it(tier3: Tier3, start: Start) -> None:
    sandbox = tier3.upload({"make": "#!/bin/sh\necho made here > product\n"})
    task = tier3.submit(
        'cat product > out && echo "$WORD" >> out',
        job_count=2,
        sandbox_id=sandbox,
        build=True,
        build_command=["./make"],
        outputs=["out"],
        environment={"WORD": 'it\'s a "word"\n$HOME'},
    )
    start(tier3)
    build, *runs = tier3.finish(task)
    assert tier3.stored(build.job_id, FILE_ROLE_OUTPUT)
    assert len(runs) == 2
    for job in runs:
        (output,) = tier3.stored(job.job_id, FILE_ROLE_OUTPUT)
        assert output.read_text() == 'made here\nit\'s a "word"\n$HOME\n'


def test_what_goes_wrong_is_reported_with_its_reason(tier3: Tier3, start: Start) -> None:
    gone, written = tier3.make_inputs(2)
    path_of(gone.url).unlink()
    written.file.checksum = ""
    path_of(written.url).write_text("something else")
    fails = tier3.submit("echo bad luck >&2; exit 3", max_attempts=1)
    silent = tier3.submit("true", outputs=["nothing"], max_attempts=1)
    missing, changed = (tier3.submit("true", [item], max_attempts=1) for item in (gone, written))
    start(tier3)
    reasons = {}
    for task in (fails, silent, missing, changed):
        (job,) = tier3.wait_for_end(task)
        assert job.state == common_pb2.JOB_STATE_FAILED
        reasons[task] = tier3.last_attempt(job.job_id).error.reason
    assert reasons == {
        fails: "PAYLOAD_FAILED",
        silent: "OUTPUT_MISSING",
        missing: "INPUT_MISSING",
        changed: "INPUT_CHANGED",
    }
    job_id = tier3.only_job(fails)
    assert tier3.last_attempt(job_id).exit_code == 3
    (log,) = tier3.stored(job_id, FILE_ROLE_LOG)
    with tarfile.open(log) as tar:
        complained = tar.extractfile("stderr")
        assert complained is not None
        assert complained.read() == b"bad luck\n"


def test_a_cancelled_job_ends_and_the_pilot_goes_on_until_it_is_told_to_end(
    tier3: Tier3, start: Start, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    task = tier3.submit(f"echo $$ > {pid_file}.new && mv {pid_file}.new {pid_file}; sleep 600")
    pilot = start(tier3)
    job_id = tier3.only_job(task)
    wait_until(pid_file.exists, lambda: str(tier3.job(job_id)))
    tier3.broker.CancelJob(broker_pb2.CancelJobRequest(job_id=job_id))
    tier3.wait_for_state(job_id, common_pb2.JOB_STATE_CANCELLED)
    wait_until(lambda: not psutil.pid_exists(int(pid_file.read_text())))
    tier3.finish(tier3.submit("true"))
    pilot.terminate()
    assert pilot.wait(PATIENCE_S) == 0
    request = monitor_pb2.ListPilotsRequest(queue=tier3.queue, include_ended=True)
    with tier3.server.channel() as channel:
        (known,) = MonitorStub(channel).ListPilots(request).pilots
    assert known.state == monitor_pb2.PILOT_STATE_ENDED


def test_it_outlasts_the_server(own_tier3: Tier3, start: Start, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    task = own_tier3.submit(f"until [ -e {go_on} ]; do sleep 0.2; done")
    start(own_tier3)
    job_id = own_tier3.only_job(task)
    own_tier3.wait_for_state(job_id, common_pb2.JOB_STATE_RUNNING)
    own_tier3.server.kill9()
    go_on.touch()
    own_tier3.server.start()
    own_tier3.finish(task)
    assert len(own_tier3.job(job_id).attempts) == 1


def test_it_shows_a_token_over_tls_and_begins_another_session_when_its_own_is_over(
    secure_site: SecureSite, start: Start, tmp_path: Path
) -> None:
    target = secure_site.start("auth=token&tls=on", session_life_seconds="3")
    site = Tier3(secure_site.servers[-1], tmp_path / "tier3")
    task = site.submit("sleep 8")
    token = secure_site.issuer.token("robot")
    start(site, target, BEARER_TOKEN=token, GRPCURL_FLAGS=f"-cacert {secure_site.ca_file}")
    site.finish(task)
    assert len(site.job(site.only_job(task)).attempts) == 1
    site.close()


def test_the_pilot_is_as_short_as_the_page_says() -> None:
    page = (DOCS / "writing-a-pilot.md").read_text()
    (said,) = re.findall(r"(\d+) lines of shell", page)
    assert len(PILOT.read_text().splitlines()) <= int(said) == 120


def test_grpcurl_lists_and_describes_services_and_methods(tier3: Tier3, grpcurl: Path) -> None:
    def said(*arguments: str) -> str:
        command = [str(grpcurl), "-plaintext", tier3.server.address, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "pandawn.broker.v1.Broker\n" in said("list")
    assert "pandawn.broker.v1.Broker.SubmitTask\n" in said("list", "pandawn.broker.v1.Broker")
    method = said("describe", "pandawn.broker.v1.Broker.SubmitTask")
    assert "SubmitTaskRequest ) returns ( .pandawn.broker.v1.SubmitTaskResponse )" in method
    assert "string request_id = 1" in said("describe", "pandawn.broker.v1.SubmitTaskRequest")
