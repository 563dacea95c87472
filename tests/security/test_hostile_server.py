"""A server that was taken over gives out jobs: their names lead nowhere, and each ends in a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2, report_pb2
from pandawn.queueconfig.v1 import queue_pb2
from tests.fixtures.pilots import PilotPlace, StartPilot
from tests.fixtures.ports import LOOPBACK, free_port

CONTENT = b"input"
NAMES = (
    *("../../../../../escape", "/etc/hostname", "..", ".", "", "a/../../../../escape", "a/b"),
    *("a\x00b", "new\nline", "x" * 300, "x" * 5000, "-rf", "~root", "link", "\u202egnp"),
)
LINK = ["/bin/sh", "-c", "ln -s /etc/hostname link; echo ok > out"]


@dataclass
class Hostile:
    """A dispatcher that gives out these jobs, one after the other, and then lets its pilot go."""

    jobs: Sequence[dispatcher_pb2.JobSpec]
    address: str = ""
    reports: list[report_pb2.JobReport] = field(default_factory=list)
    given: int = 0

    def register(self, request: Any, context: object) -> pilot_pb2.RegisterPilotResponse:
        del request, context
        queue = queue_pb2.Queue(name="Q")
        return pilot_pb2.RegisterPilotResponse(pilot_id="p", queue=queue)

    def acquire(self, request: Any, context: object) -> dispatcher_pb2.AcquireJobsResponse:
        del request, context
        if self.given == len(self.jobs):
            return dispatcher_pb2.AcquireJobsResponse(drain=True)
        self.given += 1
        lease = dispatcher_pb2.Lease(
            job=self.jobs[self.given - 1],
            attempt=1,
            lease_token="t",
            lease_duration=Duration(seconds=600),
        )
        return dispatcher_pb2.AcquireJobsResponse(leases=[lease])

    def renew(self, request: Any, context: object) -> dispatcher_pb2.RenewLeasesResponse:
        del context
        result = dispatcher_pb2.RenewalResult(
            command=dispatcher_pb2.JOB_COMMAND_CONTINUE, lease_duration=Duration(seconds=600)
        )
        return dispatcher_pb2.RenewLeasesResponse(results=[result] * len(request.renewals))

    def report(self, request: Any, context: object) -> report_pb2.ReportJobsResponse:
        del context
        self.reports += request.reports
        results = [report_pb2.ReportResult(state=common_pb2.JOB_STATE_FAILED)]
        return report_pb2.ReportJobsResponse(results=results * len(request.reports))

    def leave(self, request: Any, context: object) -> pilot_pb2.DeregisterPilotResponse:
        del request, context
        return pilot_pb2.DeregisterPilotResponse()


@dataclass
class Site:
    """What a pilot is told of whom it works for."""

    server: Hostile
    queue: str = "Q"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def serve(hostile: Hostile, threads: ThreadPoolExecutor) -> grpc.Server:
    methods: dict[str, Any] = {
        "RegisterPilot": hostile.register,
        "AcquireJobs": hostile.acquire,
        "RenewLeases": hostile.renew,
        "ReportJobs": hostile.report,
        "DeregisterPilot": hostile.leave,
    }
    servicer: Any = type("Servicer", (dispatcher_pb2_grpc.DispatcherServicer,), {})
    for name, method in methods.items():
        setattr(servicer, name, staticmethod(method))
    for name in ("ReleaseJobs", "DownloadSandbox"):
        setattr(servicer, name, staticmethod(refuse))
    servicer.__abstractmethods__ = frozenset()
    server = grpc.server(threads)
    dispatcher_pb2_grpc.add_DispatcherServicer_to_server(servicer(), server)
    hostile.address = f"{LOOPBACK}:{free_port()}"
    server.add_insecure_port(hostile.address)
    server.start()
    return server


def refuse(request: object, context: grpc.ServicerContext) -> None:
    del request
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


def jobs(store: Path, source: Path) -> list[dispatcher_pb2.JobSpec]:
    """Jobs with each name in each place where a pilot makes a path of one, and other nonsense."""
    make = dispatcher_pb2.JobSpec
    output, given = dispatcher_pb2.OutputFile, dispatcher_pb2.InputFile
    found = []
    for number, name in enumerate(NAMES):
        file = common_pb2.File(lfn=name, size_bytes=len(CONTENT))
        url = (store / f"stolen-{number}").as_uri()
        found += [
            make(command=LINK, outputs=[output(name=name, lfn=name, url=url)]),
            make(command=["/bin/true"], inputs=[given(file=file, url=source.as_uri())]),
            make(
                command=["/bin/true"], inputs=[given(file=file, url=source.as_uri(), library=True)]
            ),
            make(command=["/bin/true"], sandbox_id=name),
            make(command=[name]),
            make(command=["/bin/true"], environment={name: name}),
            make(kind=common_pb2.JOB_KIND_BUILD, outputs=[output(name=name)] * 2),
        ]
    limits = dispatcher_pb2.Limits(max_work_dir_bytes=-1, memory_bytes=-1, max_input_bytes=-1)
    limits.max_wall_time.seconds = -5
    found += [make(command=["/bin/true"], limits=limits), make(kind=99)]  # type: ignore[arg-type]
    for number, job in enumerate(found, start=1):
        job.job_id = number
    return found


def test_names_from_a_hostile_server_stay_in_the_job(
    pilot_root: Path, start_pilot: StartPilot, threads: ThreadPoolExecutor
) -> None:
    store, source = pilot_root / "store", pilot_root / "source"
    store.mkdir()
    source.write_bytes(CONTENT)
    hostile = Hostile(jobs(store, source))
    server = serve(hostile, threads)
    try:
        # Deep enough that what climbs is seen.
        place = PilotPlace(pilot_root / "a/b/c/d")
        for directory in (place.root, *place.root.parents):
            if directory.is_relative_to(pilot_root):
                directory.chmod(0o711)
        pilot = start_pilot(Site(hostile), place=place, cache_dir=None, no_cache=True, max_jobs=8)
        assert pilot.wait() == 0, pilot.log
    finally:
        server.stop(0).wait()
    assert sorted(r.lease.job_id for r in hostile.reports) == [job.job_id for job in hostile.jobs]
    assert "an error of its own" not in pilot.log
    beside = {path for path in pilot_root.rglob("*") if not path.is_relative_to(place.root)}
    known = {store, source, pilot_root / "pilot-0.log", *place.root.parents}
    assert beside <= known
    # No name, and no link, made the pilot store what the job did not write.
    assert not list(store.iterdir())
