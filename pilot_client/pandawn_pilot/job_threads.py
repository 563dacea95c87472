"""Runs each of the pilot's jobs in its own thread, from lease to report."""

from __future__ import annotations

import threading

from pandawn.common.v1.common_pb2 import PHASE_PAYLOAD, PHASE_STAGE_IN
from pandawn.dispatcher.v1.report_pb2 import JobReport
from pandawn_client.refusals import CallError
from pandawn_pilot.errors import PILOT_ERROR, JobFailedError
from pandawn_pilot.job.live_job import JobTable, LiveJob
from pandawn_pilot.job.report import make_report
from pandawn_pilot.job.runner import JobRunner, Surroundings, prepare
from pandawn_pilot.job.stage_in import StageInSums
from pandawn_pilot.job.work_dir import JobDir, WorkDir
from pandawn_pilot.logs import JobLog, Log
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.server.reporting import Reporting
from pandawn_pilot.server.session import Session
from pandawn_pilot.stop import StoppedError, StopReason

_LOOK_SECONDS = 1.0


class JobThreads:
    """Starts and stops jobs. `table` holds those that are not reported yet."""

    def __init__(
        self,
        work_dir: WorkDir,
        session: Session,
        reporting: Reporting,
        options: PilotOptions,
        log: Log,
    ) -> None:
        self.table = JobTable()
        self._work_dir = work_dir
        self._session = session
        self._reporting = reporting
        self._options = options
        self._log = log
        self._halted = threading.Event()

    def start(self, job: LiveJob, surroundings: Surroundings) -> None:
        """Starts a job; ignores one that has started already, as the server may repeat a response."""
        if not self.table.add(job):
            return
        if self._halted.is_set():
            job.end(StopReason.SHUTDOWN)
        name = f"job-{job.spec.job_id}"
        try:
            # A daemon: if the main thread dies of an error, jobs must not keep the process alive.
            threading.Thread(
                target=self._work_on, args=(job, surroundings), name=name, daemon=True
            ).start()
        except RuntimeError as error:
            # For example at a process limit. A lease without a worker must not be renewed.
            self.table.remove(job)
            self._log.warning(
                "released job %d, cannot start a thread for it: %s", job.spec.job_id, error
            )
            self._reporting.release(self._session.pilot_id, [job.reference()])

    def halt(self) -> None:
        """Stops all jobs, including those started later."""
        self._halted.set()
        for job in self.table.all():
            job.end(StopReason.SHUTDOWN)

    def evict(self, *, running: bool) -> None:
        """Stops jobs that are still in stage-in; with `running`, also those whose payload runs."""
        for job in self.table.all():
            if job.phase == PHASE_STAGE_IN or (running and job.phase == PHASE_PAYLOAD):
                job.end(StopReason.EVICTED)

    def hurry(self) -> None:
        """Kills the payloads of jobs that are stopping, without a further warning."""
        for job in self.table.all():
            job.stop.hurry()

    def wait(self, over: threading.Event) -> None:
        """Waits until all jobs have ended or `over` is set."""
        while not over.is_set() and not self.table.wait_below(1, _LOOK_SECONDS):
            pass

    def _work_on(self, job: LiveJob, surroundings: Surroundings) -> None:
        directory = self._work_dir.job(*job.key)
        try:
            try:
                prepare(job, directory)
            except JobFailedError as failure:
                self._report(job, _report_of(job, failure), self._log)
                return
            self._run(job, directory, surroundings)
        except Exception as error:  # noqa: BLE001 (a worker loop)
            self._log.exception(
                "job %d failed with an internal error of the pilot", job.spec.job_id
            )
            self._report_error(job, error)
        finally:
            # Always: the lease of a job that stays in the table would be renewed for ever.
            try:
                if not self._options.keep_work_dir:
                    directory.remove()
            except Exception:  # noqa: BLE001
                self._log.exception("cannot remove the directory of job %d", job.spec.job_id)
            finally:
                self.table.remove(job)

    def _run(self, job: LiveJob, directory: JobDir, surroundings: Surroundings) -> None:
        job_id, attempt = job.key
        log = JobLog(self._log, directory.log, job=str(job_id), attempt=str(attempt))
        try:
            log.info("job starts: %s", job.lease.job_match.summary or "the server gave no reason")
            report = JobRunner(job, directory, surroundings, log).run()
            if report is not None:
                self._report(job, report, log)
            elif job.abandon.reason is StopReason.STALE:
                log.warning("dropped: %s", StopReason.STALE.value)
            else:
                self._reporting.release(self._session.pilot_id, [job.reference()])
        finally:
            log.close()

    def _report_error(self, job: LiveJob, error: Exception) -> None:
        """Reports the failure, so that the job is free before its lease expires."""
        failure = JobFailedError(PILOT_ERROR, f"{type(error).__name__}: {error}")
        try:
            self._report(job, _report_of(job, failure), self._log)
        except Exception:  # noqa: BLE001
            self._log.exception(
                "cannot report the failure of job %d; the server requeues it when its lease expires",
                job.spec.job_id,
            )

    def _report(self, job: LiveJob, report: JobReport, log: Log) -> None:
        try:
            self._reporting.report(self._session.pilot_id, report, stop=job.silence, log=log)
        except StoppedError as stopped:
            log.warning("report not delivered: %s", stopped)
        except CallError as failure:
            log.warning("report not delivered: %s", failure)


def _report_of(job: LiveJob, failure: JobFailedError) -> JobReport:
    """The report of a job that failed before it had results."""
    return make_report(
        job,
        failure=failure,
        exit_code=None,
        outputs=(),
        log=None,
        sums=StageInSums(),
        times=(),
    )
