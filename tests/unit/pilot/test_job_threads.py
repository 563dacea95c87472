"""The threads of a pilot's jobs: an error in one takes no lease with it that nobody works under."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2 as dispatcher
from pandawn.dispatcher.v1 import report_pb2
from pandawn_client.connection import Connection
from pandawn_pilot import job_threads
from pandawn_pilot.job.live_job import LiveJob
from pandawn_pilot.job.runner import Surroundings
from pandawn_pilot.job.work_dir import JobDir, WorkDir
from pandawn_pilot.job_threads import JobThreads
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.server.reporting import Reporting
from pandawn_pilot.server.session import Session
from tests.fixtures.fake_dispatcher import FakeDispatcher
from tests.unit.pilot.factories import make_test_log

NO_SURROUNDINGS = cast("Surroundings", None)


def make_live_job() -> LiveJob:
    return LiveJob(dispatcher.Lease(job=dispatcher.JobSpec(job_id=17), attempt=1, lease_token="t"))


@pytest.fixture
def jobs(fake_dispatcher: FakeDispatcher, tmp_path: Path) -> Iterator[JobThreads]:
    fake_dispatcher.behaviours["ReportJobs"] = lambda _request, _context: (
        report_pb2.ReportJobsResponse(
            results=[report_pb2.ReportResult(state=common_pb2.JOB_STATE_ACTIVATED)]
        )
    )
    work_dir = WorkDir(tmp_path)
    work_dir.jobs.mkdir()
    work_dir.reports.mkdir()
    connection = Connection(fake_dispatcher.address)
    yield JobThreads(
        work_dir,
        cast("Session", SimpleNamespace(pilot_id="p1")),
        Reporting(connection, work_dir.reports, make_test_log()),
        cast("PilotOptions", SimpleNamespace(keep_work_dir=False)),
        make_test_log(),
    )
    connection.close()


def test_a_job_for_which_no_thread_can_be_had_is_given_back(
    fake_dispatcher: FakeDispatcher, jobs: JobThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    class NoThread(threading.Thread):
        start = refuse

    monkeypatch.setattr(job_threads, "threading", SimpleNamespace(Thread=NoThread))
    jobs.start(make_live_job(), NO_SURROUNDINGS)
    (request,) = fake_dispatcher.requests("ReleaseJobs")
    assert [lease.job_id for lease in request.leases] == [17]
    assert len(jobs.table) == 0, "or heartbeats would renew its lease for ever"


def test_an_error_of_the_pilots_own_ends_the_attempt_at_the_server_and_frees_the_slot(
    fake_dispatcher: FakeDispatcher, jobs: JobThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(job_threads, "prepare", lambda _job, _directory: None)
    monkeypatch.setattr(job_threads, "JobLog", fail)
    # Nor can what is left of it be removed.
    monkeypatch.setattr(JobDir, "remove", fail)
    jobs.start(make_live_job(), NO_SURROUNDINGS)
    jobs.wait(threading.Event())
    (request,) = fake_dispatcher.requests("ReportJobs")
    (report,) = request.reports
    assert (report.lease.job_id, report.error.reason) == (17, "PILOT_ERROR")
