"""What a pilot does with its leases: whom it asks, what it waits for, and what it does when they are over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
import pytest

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2 as dispatcher
from pandawn.dispatcher.v1 import report_pb2
from pandawn_client.connection import Connection
from pandawn_client.durations import duration, seconds
from pandawn_pilot.catalog.inventory import CacheState
from pandawn_pilot.catalog.loop import CatalogLoop
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.job.live_job import JobTable, LiveJob
from pandawn_pilot.server.heartbeat import ENDING_LEASE_SECONDS, Heartbeat
from pandawn_pilot.server.reporting import Reporting
from pandawn_pilot.server.session import Session
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from tests.fixtures.fake_dispatcher import FakeDispatcher
from tests.unit.pilot.factories import make_test_log

PATIENCE_S = 30
STALE = common_pb2.ItemStatus(code=9, reason="STALE_LEASE", message="the attempt is over")


def make_live_job(lease_seconds: float = 60) -> LiveJob:
    spec = dispatcher.JobSpec(job_id=17)
    return LiveJob(dispatcher.Lease(job=spec, attempt=2, lease_duration=duration(lease_seconds)))


def renewed(
    command: dispatcher.JobCommand.ValueType = dispatcher.JOB_COMMAND_CONTINUE,
    status: common_pb2.ItemStatus | None = None,
) -> Callable[
    [dispatcher.RenewLeasesRequest, grpc.ServicerContext], dispatcher.RenewLeasesResponse
]:
    """Answers each renewal alike."""

    def answer(
        request: dispatcher.RenewLeasesRequest, _context: grpc.ServicerContext
    ) -> dispatcher.RenewLeasesResponse:
        result = dispatcher.RenewalResult(
            command=command, lease_duration=duration(60), status=status or common_pb2.ItemStatus()
        )
        return dispatcher.RenewLeasesResponse(results=[result for _ in request.renewals])

    return answer


class BeatingPilot:
    """A heartbeat against a dispatcher of the test, with all that it needs."""

    def __init__(self, fake: FakeDispatcher, catalog: CatalogLoop | None = None) -> None:
        self.connection = Connection(fake.address)
        self.jobs = JobTable()
        session = SimpleNamespace(
            pilot_id="p1",
            count=1,
            heartbeat_seconds=3600.0,
            is_over=lambda _failure, _pilot_id: False,
            queue=SimpleNamespace(catch_up_later=lambda _revision: None),
        )
        self.heartbeat = Heartbeat(
            self.connection,
            cast("Session", session),
            self.jobs,
            catalog,
            lambda _why: None,
            lambda _failure: None,
            make_test_log(),
        )


@pytest.fixture
def pilot(fake_dispatcher: FakeDispatcher) -> Iterator[BeatingPilot]:
    fake_dispatcher.behaviours["RenewLeases"] = renewed()
    pilot = BeatingPilot(fake_dispatcher)
    yield pilot
    pilot.connection.close()


def wait_for_beats(fake: FakeDispatcher, count: int) -> list[dispatcher.RenewLeasesRequest]:
    """The requests, once there are so many."""
    wait_for(lambda: len(fake.requests("RenewLeases")) >= count)
    return fake.requests("RenewLeases")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_server_is_asked_for_the_lease_just_before_a_file_becomes_visible(
    fake_dispatcher: FakeDispatcher, pilot: BeatingPilot
) -> None:
    # By every clock of the node it holds for an hour: a machine that stood still would think so, too.
    job = make_live_job(3600)
    job.confirm(pilot.heartbeat.confirm)
    (asked,) = fake_dispatcher.requests("RenewLeases")
    assert [(r.lease.job_id, r.lease.attempt) for r in asked.renewals] == [(17, 2)]


@pytest.mark.parametrize(
    "status",
    [STALE, common_pb2.ItemStatus(code=7, reason="NOT_YOUR_LEASE")],
    ids=["stale", "not ours"],
)
def test_nothing_is_published_without_a_lease(
    fake_dispatcher: FakeDispatcher, pilot: BeatingPilot, status: common_pb2.ItemStatus
) -> None:
    fake_dispatcher.behaviours["RenewLeases"] = renewed(status=status)
    job = make_live_job(3600)
    with pytest.raises(StoppedError):
        job.confirm(pilot.heartbeat.confirm)
    assert job.abandon.reason is StopReason.STALE


def test_a_cancelled_job_may_still_store_its_log(
    fake_dispatcher: FakeDispatcher, pilot: BeatingPilot
) -> None:
    fake_dispatcher.behaviours["RenewLeases"] = renewed(dispatcher.JOB_COMMAND_CANCEL)
    job = make_live_job()
    job.confirm(pilot.heartbeat.confirm)
    assert job.stop.reason is StopReason.CANCELLED


def test_a_pilot_that_was_told_to_end_asks_for_short_leases_at_once(
    fake_dispatcher: FakeDispatcher, pilot: BeatingPilot
) -> None:
    pilot.jobs.add(make_live_job())
    pilot.heartbeat.start()
    (usual,) = wait_for_beats(fake_dispatcher, 1)
    assert not usual.HasField("lease_duration")
    # Its next beat would be in an hour.
    pilot.heartbeat.expect_kill(60)
    ending = wait_for_beats(fake_dispatcher, 3)[1]
    pilot.heartbeat.stop()
    assert ENDING_LEASE_SECONDS <= seconds(ending.lease_duration) < 30


class StuckReporter:
    """A cache whose journal another process keeps locked."""

    def __init__(self) -> None:
        self.asked, self.freed = threading.Event(), threading.Event()

    def state(self) -> CacheState:
        self.asked.set()
        self.freed.wait()
        return CacheState(1, 2, 3)

    def pending(self) -> bool:
        return False


def test_heartbeats_wait_for_no_lock_of_the_cache(fake_dispatcher: FakeDispatcher) -> None:
    fake_dispatcher.behaviours["RenewLeases"] = renewed()
    reporter = StuckReporter()
    catalog = CatalogLoop(cast("CatalogReporter", reporter), make_test_log())
    catalog.start()
    assert reporter.asked.wait(PATIENCE_S)
    pilot = BeatingPilot(fake_dispatcher, catalog)
    pilot.jobs.add(make_live_job())
    pilot.heartbeat.start()
    (beat,) = wait_for_beats(fake_dispatcher, 1)
    assert not beat.HasField("cache"), "nobody knows it yet"
    assert catalog.flush(0.1) is False
    reporter.freed.set()
    wait_for(lambda: catalog.state() is not None)
    pilot.heartbeat.beat_now()
    beat = wait_for_beats(fake_dispatcher, 2)[1]
    assert beat.cache.sequence == 2
    pilot.heartbeat.stop()
    catalog.stop()
    pilot.connection.close()


def make_report() -> report_pb2.JobReport:
    return report_pb2.JobReport(
        lease=report_pb2.LeaseRef(job_id=17, attempt=2, lease_token="t"),
        outcome=report_pb2.OUTCOME_FAILED,
    )


def test_a_report_whose_reply_was_lost_is_repeated_although_the_lease_is_over(
    fake_dispatcher: FakeDispatcher, tmp_path: Path
) -> None:
    job = make_live_job()
    answers = iter(["lost", "given again"])

    def report(
        _request: report_pb2.ReportJobsRequest, context: grpc.ServicerContext
    ) -> report_pb2.ReportJobsResponse:
        if next(answers) == "lost":
            # It was taken, so the next heartbeat hears that the lease is over.
            job.end(StopReason.STALE)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        state = common_pb2.JOB_STATE_ACTIVATED
        return report_pb2.ReportJobsResponse(results=[report_pb2.ReportResult(state=state)])

    fake_dispatcher.behaviours["ReportJobs"] = report
    connection = Connection(fake_dispatcher.address)
    reporting = Reporting(connection, tmp_path, make_test_log())
    reporting.report("p1", make_report(), stop=job.silence, log=make_test_log())
    assert len(fake_dispatcher.requests("ReportJobs")) == 2
    assert not reporting.has_undelivered(), "the pilot may say goodbye"
    connection.close()


def test_a_report_of_an_attempt_that_was_over_leaves_nothing_behind(
    fake_dispatcher: FakeDispatcher, tmp_path: Path
) -> None:
    fake_dispatcher.behaviours["ReportJobs"] = lambda _request, _context: (
        report_pb2.ReportJobsResponse(results=[report_pb2.ReportResult(status=STALE)])
    )
    connection = Connection(fake_dispatcher.address)
    reporting = Reporting(connection, tmp_path, make_test_log())
    reporting.report("p1", make_report(), stop=Stop(), log=make_test_log())
    assert list(tmp_path.iterdir()) == []
    connection.close()
