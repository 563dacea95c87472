"""Measures the rates of renewed leases, reported jobs, and added and checked files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, report_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, lookup_pb2
from pandawn_tools.bench.load import Shape
from pandawn_tools.bench.measure import Processes, Slice, measure
from pandawn_tools.bench.messages import (
    ADD_FILES,
    CHECK_FILES,
    FILES_PER_CALL,
    RENEW,
    REPORT,
    additions,
    checks,
    renewals,
    reports,
)
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.rows import LEASES_PER_PILOT
from pandawn_tools.bench.site import Say, Site


@dataclass(frozen=True, slots=True)
class Rates:
    """Items per second."""

    renew_leases: float
    report_jobs: float
    catalog_add_files: float
    catalog_check_files: float


def measure_rates(site: Site, shape: Shape, processes: Processes, say: Say) -> Rates:
    """Measures one after the other; those that change the catalog come last. Raises `BenchError`.

    Of calls with many items only a quarter is in flight.
    """
    bulky = Shape(shape.connections, max(1, shape.streams // 4), shape.warm_s, shape.measure_s)
    leased = site.world.leased

    def run(path: str, load: Shape, messages: Iterator[bytes], items: int, what: str) -> Slice:
        found = measure(site.target(path), load, messages, processes, keep_bodies=True)
        say(
            f"{found.load.rps * items:,.0f} {what} a second in {found.load.rps:,.0f} calls, "
            f"p99 {found.load.quantile_ms(0.99):.1f} ms, CPU us a call: "
            f"server {found.cpu_us.server:.0f}, PostgreSQL {found.cpu_us.postgres:.0f}, "
            f"memcached {found.cpu_us.memcached:.0f}"
        )
        return found

    renewed = run(RENEW, bulky, renewals(leased, site.nodes), LEASES_PER_PILOT, "leases renewed")
    _check_renewed(renewed)
    reported = run(REPORT, shape, reports(leased), 1, "jobs reported")
    _check_reported(reported)
    checked = run(
        CHECK_FILES, bulky, checks(site.nodes, site.world.datasets), FILES_PER_CALL, "files checked"
    )
    _check_checked(checked)
    added = run(ADD_FILES, bulky, additions(site.nodes), FILES_PER_CALL, "files added")
    _check_added(added)
    return Rates(
        renewed.load.rps * LEASES_PER_PILOT,
        reported.load.rps,
        added.load.rps * FILES_PER_CALL,
        checked.load.rps * FILES_PER_CALL,
    )


def _check_renewed(found: Slice) -> None:
    for body in found.load.bodies:
        results = dispatcher_pb2.RenewLeasesResponse.FromString(body).results
        renewed = sum(result.status.code == 0 for result in results)
        if renewed != LEASES_PER_PILOT:
            raise BenchError(f"{renewed} of {LEASES_PER_PILOT} leases were renewed: {results[:3]}")


def _check_reported(found: Slice) -> None:
    for body in found.load.bodies:
        for result in report_pb2.ReportJobsResponse.FromString(body).results:
            if result.state != common_pb2.JOB_STATE_FINISHED:
                raise BenchError(f"a report was not taken: {result}")


def _check_checked(found: Slice) -> None:
    for body in found.load.bodies:
        presences = lookup_pb2.CheckFilesResponse.FromString(body).presences
        present = sum(presence.present for presence in presences)
        if present != FILES_PER_CALL // 2:
            raise BenchError(f"{present} of {FILES_PER_CALL} files were found, a half was expected")


def _check_added(found: Slice) -> None:
    for body in found.load.bodies:
        response = filecatalog_pb2.AddFilesResponse.FromString(body)
        if response.result != filecatalog_pb2.DELTA_RESULT_APPLIED:
            raise BenchError(f"a delta was not applied: {response}")
