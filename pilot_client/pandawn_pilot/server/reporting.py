"""Delivers reports of ended jobs to the server, however long that takes."""

from __future__ import annotations

from pathlib import Path

import grpc

from pandawn.common.v1.common_pb2 import JobState
from pandawn.dispatcher.v1.dispatcher_pb2 import ReleaseJobsRequest
from pandawn.dispatcher.v1.report_pb2 import (
    OUTCOME_FAILED,
    OUTCOME_FINISHED,
    JobReport,
    LeaseRef,
    ReportJobsRequest,
    ReportResult,
)
from pandawn_client.calls import call, persist
from pandawn_client.connection import Connection
from pandawn_client.refusals import CallError
from pandawn_pilot.errors import STAGE_OUT_FAILED, JobFailedError
from pandawn_pilot.job.report import error_message
from pandawn_pilot.logs import Log
from pandawn_pilot.server.stored_reports import StoredReport, store_report, stored_reports
from pandawn_pilot.stop import Stop

# Jobs that cannot be released in this time are requeued when their leases expire.
RELEASE_SECONDS = 5.0
# Timeout of one report. Many outputs take long on a busy database.
REPORT_SECONDS = 30.0


class Reporting:
    """Sends reports, and stores undelivered ones in `directory`."""

    def __init__(self, connection: Connection, directory: Path, log: Log) -> None:
        self._connection = connection
        self._directory = directory
        self._log = log

    def report(
        self,
        pilot_id: str,
        report: JobReport,
        *,
        stop: Stop,
        log: Log,
        give_up_after: float | None = None,
    ) -> None:
        """Stores a report on disk and sends it until the server responds.

        Raises StoppedError when `stop` is set, and CallError after `give_up_after` seconds; the report
        then stays on disk for the next run.
        """
        try:
            stored = store_report(self._directory, pilot_id, report)
        except OSError as error:
            # For example on a full disk. The report can still be sent in this run.
            log.warning("cannot store the report on disk, sending it from memory: %s", error)
            stored = StoredReport(None, pilot_id, report)
        self._deliver(stored, stop, log, give_up_after)

    def deliver_old(self, stop: Stop, give_up_after: float) -> None:
        """Sends the reports that an earlier run could not. Raises CallError and StoppedError."""
        for stored in stored_reports(self._directory):
            self._log.info("reporting job %d of an earlier run", stored.report.lease.job_id)
            try:
                self._deliver(stored, stop, self._log, give_up_after)
            except CallError as failure:
                if failure.transient:
                    raise
                # For example a report of another queue or node.
                self._log.error(
                    "the server refuses the report of job %d, kept as .refused: %s",
                    stored.report.lease.job_id,
                    failure,
                )
                stored.set_aside()

    def has_undelivered(self) -> bool:
        """Whether undelivered reports are stored."""
        return bool(stored_reports(self._directory))

    def release(self, pilot_id: str, leases: list[LeaseRef]) -> None:
        """Releases jobs that were not started; gives up soon, as their leases expire anyway."""
        if not leases:
            return
        request = ReleaseJobsRequest(pilot_id=pilot_id, leases=leases)
        try:
            persist(
                lambda: call(self._connection.dispatcher.ReleaseJobs, request, RELEASE_SECONDS),
                "release of jobs",
                self._log,
                stop=Stop(),
                give_up_after=RELEASE_SECONDS,
                contact=self._connection.contact,
            )
        except CallError as failure:
            self._log.warning(
                "cannot release %d jobs, their leases will expire: %s", len(leases), failure
            )
        else:
            self._log.info("released %d jobs that were not started", len(leases))

    def _deliver(
        self, stored: StoredReport, stop: Stop, log: Log, give_up_after: float | None
    ) -> None:
        report = stored.report
        try:
            result = self._send(stored.pilot_id, report, stop, log, give_up_after)
        except CallError as failure:
            if failure.transient or failure.code is grpc.StatusCode.PERMISSION_DENIED:
                # An administrator may restore the permission: the next run tries again.
                raise
            log.error("the server refuses the report: %s", failure)  # noqa: TRY400 (no bug)
            stored.forget()
            return
        if result.status.code == 0:
            log.info("reported, job state is now %s", JobState.Name(result.state))
        elif result.status.reason == "STALE_LEASE":
            log.warning("report dropped, the lease was over: %s", result.status.message)
        elif report.outcome == OUTCOME_FINISHED:
            log.error("the server counts the job as failed: %s", result.status.message)
            failed = failed_instead(report, result.status.message)
            stored.forget()
            self.report(stored.pilot_id, failed, stop=stop, log=log, give_up_after=give_up_after)
            return
        else:
            log.error("the server refuses the report: %s", result.status.message)
        stored.forget()

    def _send(
        self, pilot_id: str, report: JobReport, stop: Stop, log: Log, give_up_after: float | None
    ) -> ReportResult:
        request = ReportJobsRequest(pilot_id=pilot_id, reports=[report])
        response = persist(
            lambda: call(self._connection.dispatcher.ReportJobs, request, REPORT_SECONDS),
            "report",
            log,
            stop=stop,
            give_up_after=give_up_after,
            contact=self._connection.contact,
        )
        return response.results[0]


def failed_instead(report: JobReport, why: str) -> JobReport:
    """The failed report for a job that the pilot finished but the server refuses as finished."""
    failed = JobReport()
    failed.CopyFrom(report)
    failed.outcome = OUTCOME_FAILED
    failed.ClearField("outputs")
    failed.error.CopyFrom(error_message(JobFailedError(STAGE_OUT_FAILED, why)))
    return failed
