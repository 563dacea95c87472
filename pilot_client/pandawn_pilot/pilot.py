"""The pilot: polls for jobs until it should end, runs several at a time, and cleans up at its end."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import replace

from pandawn.common.v1.common_pb2 import Requirements
from pandawn.dispatcher.v1.dispatcher_pb2 import AcquireJobsResponse
from pandawn.queueconfig.v1.queue_pb2 import Queue
from pandawn_client.connection import Connection
from pandawn_client.credentials import Credentials
from pandawn_client.durations import duration, seconds
from pandawn_client.refusals import CallError
from pandawn_pilot.cache.input_cache import InputCache
from pandawn_pilot.cache_opening import open_cache
from pandawn_pilot.catalog.client import CatalogClient, state_message
from pandawn_pilot.catalog.loop import CatalogLoop
from pandawn_pilot.chores import Chores
from pandawn_pilot.ending import Ending, exit_at_once
from pandawn_pilot.exit_status import ExitStatus
from pandawn_pilot.job.live_job import LiveJob
from pandawn_pilot.job.runner import Surroundings
from pandawn_pilot.job.work_dir import WorkDir, WorkDirBusyError
from pandawn_pilot.job_threads import JobThreads
from pandawn_pilot.logs import Log
from pandawn_pilot.node.accounts import (
    AccountError,
    Accounts,
    SameAccount,
    check_account,
    open_accounts,
)
from pandawn_pilot.node.disk_use import free_bytes
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.payload.queue_rules import account_choice, wants_isolation, why_to_end
from pandawn_pilot.payload.run import why_not_separate
from pandawn_pilot.server.acquire import Acquirer
from pandawn_pilot.server.heartbeat import Heartbeat
from pandawn_pilot.server.queue_view import QueueView
from pandawn_pilot.server.queue_watch import QueueWatch
from pandawn_pilot.server.reporting import Reporting
from pandawn_pilot.server.session import Session
from pandawn_pilot.server.token_file import TokenKeeper
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_pilot.time_left import TimeLeft
from pandawn_pilot.xrootd.local_server import LocalServer

# How long the server may hold a poll for jobs.
ACQUIRE_WAIT_SECONDS = 20.0
# The matchmaker should see the latest contents of the cache, but they are not worth a long wait.
FLUSH_SECONDS = 2.0
# Pause after an internal error; after this many in a row the pilot drains.
ERROR_PAUSE_SECONDS = 5.0
MOST_ERRORS = 10


class Pilot:
    """One run of a pilot. `drain`, `halt` and `ending` are thread-safe."""

    def __init__(
        self, options: PilotOptions, connection: Connection, credentials: Credentials, log: Log
    ) -> None:
        self._options = options
        self._connection = connection
        self._log = log
        self._drain = Stop()
        self._why = ""
        self._status = ExitStatus.DONE
        self._work_dir = WorkDir(options.work_dir)
        chores = Chores(log)
        self._token = TokenKeeper(
            connection.identity, credentials, log, keep_file=options.keep_token_file
        )
        self._queue = QueueView(options.queue, self._work_dir.queue, connection, log, chores)
        self._session = Session(
            connection, options, self._work_dir, self._queue, self._token.refresh, log, chores
        )
        self._reporting = Reporting(connection, self._work_dir.reports, log)
        self._jobs = JobThreads(self._work_dir, self._session, self._reporting, options, log)
        self._acquirer = Acquirer(connection, self._session, log)
        self._heartbeat: Heartbeat | None = None
        self._over = threading.Event()
        self.ending = Ending(options.grace, log)
        self.ending.on_first = self._expect_end
        self.ending.on_evict = self._evict
        self.ending.on_halt = self.halt
        self.ending.on_hurry = self._jobs.hurry
        self.ending.on_over = self._end_now
        self._cache: InputCache | None = None
        self._catalog: CatalogLoop | None = None
        self._local_server: LocalServer | None = None
        if options.local_xrootd is not None:
            self._local_server = LocalServer(options.local_xrootd, log)
        self._time = TimeLeft(options)
        self._idle_reason = ""
        self._isolated = False

    def drain(self, why: str) -> None:
        """Takes no more jobs; the pilot ends when its running jobs are done."""
        if self._drain.reason is None:
            self._why = why
            self._log.info("draining, takes no more jobs: %s", why)
        self._drain.request(StopReason.SHUTDOWN)

    def halt(self, why: str) -> None:
        """Drains, stops the running jobs, and then ends the pilot."""
        self.drain(why)
        if len(self._jobs.table):
            self._status = ExitStatus.STOPPED
        self._jobs.halt()

    def _expect_end(self, why: str, within: float) -> None:
        self.drain(why)
        heartbeat = self._heartbeat
        if heartbeat is not None:
            heartbeat.expect_kill(within)

    def _evict(self, running: bool) -> None:
        self._jobs.evict(running=running)
        if running and len(self._jobs.table):
            self._status = ExitStatus.STOPPED

    def _end_now(self) -> None:
        """Deregisters, which releases jobs that did not end in time, and exits whatever the threads wait for."""
        self._over.set()
        self._session.deregister(self._why)
        self._log.warning("exiting at once with status %d: the grace period is over", self._status)
        exit_at_once(self._status)

    def run(self) -> ExitStatus:
        """Runs the pilot to its end; returns the exit status.

        Raises WorkDirBusyError, AccountError, CredentialError and OSError when it cannot work on this node.
        """
        with self._work_dir.occupied(), ExitStack() as stack:
            former = self._work_dir.former_pilot()
            self._queue.load()
            try:
                self._session.register(self._drain)
            except StoppedError:
                return self._status
            except CallError as failure:
                self._end_by(failure)
                return self._status
            stack.callback(self._deregister)
            self._session.store_pilot_id()
            accounts = self._open_accounts()
            try:
                self._clean_up_after(former)
            except StoppedError:
                return self._status
            except CallError as failure:
                self._end_by(failure)
                return self._status
            self._open_cache()
            if self._catalog is not None:
                self._catalog.start()
                stack.callback(self._catalog.stop)
            heartbeat = Heartbeat(
                self._connection,
                self._session,
                self._jobs.table,
                self._catalog,
                self.drain,
                self._refused,
                self._log,
            )
            # The heartbeat finds out why a session is refused, and registers again if that helps.
            self._connection.identity.on_refused = heartbeat.beat_now
            heartbeat.start()
            stack.callback(heartbeat.stop)
            self._heartbeat = heartbeat
            if self.ending.is_ending:
                heartbeat.expect_kill(self.ending.watchful_seconds)
            self._isolated = not isinstance(accounts, SameAccount)
            self._queue.on_change = self._on_queue_change
            watch = QueueWatch(self._queue, self._connection, self._log)
            watch.start()
            stack.callback(watch.stop)
            surroundings = Surroundings(
                self._connection,
                self._cache,
                heartbeat.confirm,
                self._time.deadline,
                accounts,
                self._queue.latest,
                self._local_server,
                self._can_separate(),
                self.ending.excuse,
            )
            self._take_jobs(surroundings)
            self._jobs.wait(self._over)
            if self._catalog is not None:
                self._catalog.flush(FLUSH_SECONDS)
        return self._status

    def _open_accounts(self) -> Accounts:
        queue, is_root = self._queue.latest, os.geteuid() == 0
        choice = account_choice(queue.parameters, self._options.payload_user, is_root=is_root)
        accounts = open_accounts(choice, self._options.max_jobs)
        if wants_isolation(queue.parameters) and isinstance(accounts, SameAccount):
            raise AccountError(
                f"queue {queue.name} requires payloads to run under another account than the pilot's;"
                " run the pilot as root, and without --payload-user same"
            )
        self._token.hide_from_payloads(same_account=isinstance(accounts, SameAccount))
        if not isinstance(accounts, SameAccount):
            self._work_dir.allow_traversal()
            check_account(accounts, self._work_dir.jobs)
        return accounts

    def _can_separate(self) -> bool:
        """Whether payloads with their own accounts also get their own name spaces."""
        if not self._isolated:
            return False
        why_not = why_not_separate()
        if why_not is not None:
            self._log.warning("payloads run without their own name spaces: %s", why_not)
        return why_not is None

    def _clean_up_after(self, former: str) -> None:
        """Delivers the reports of a pilot that died in this directory, then deregisters it."""
        queue = self._queue.latest.parameters
        if queue.job_recovery or not queue.HasField("job_recovery"):
            self._reporting.deliver_old(self._drain, self._options.connect_timeout)
        if former:
            self._session.deregister_pilot(former, "the pilot died")
        if not self._options.keep_work_dir:
            self._work_dir.clear_jobs()

    def _open_cache(self) -> None:
        client = CatalogClient(
            self._connection, self._queue.latest.parameters.site, self._options.node
        )
        opened = open_cache(self._options, client, self._log)
        self._cache, self._catalog = opened.inputs, opened.catalog

    def _take_jobs(self, surroundings: Surroundings) -> None:
        """Polls for jobs and starts them, until the pilot drains.

        An internal error ends neither the running jobs nor, if it passes, the pilot.
        """
        errors = 0
        while self._drain.reason is None:
            try:
                self._take_more(surroundings)
            except CallError as failure:
                self._end_by(failure)
            except StoppedError:
                return
            except WorkDirBusyError as busy:
                self._status = ExitStatus.USAGE
                self.drain(str(busy))
            except Exception:  # noqa: BLE001 (a worker loop)
                errors += 1
                self._log.exception("polling for jobs failed with an internal error")
                if errors == MOST_ERRORS:
                    self._status = ExitStatus.INTERNAL_ERROR
                    self.drain(f"{MOST_ERRORS} internal errors in a row")
                self._drain.wait(ERROR_PAUSE_SECONDS)
            else:
                errors = 0

    def _take_more(self, surroundings: Surroundings) -> None:
        if len(self._jobs.table):
            self._time.record_work()
        over = self._time.why_over(self._queue.latest, has_jobs=len(self._jobs.table) > 0)
        if over is not None:
            self.drain(over)
            return
        if not self._jobs.table.wait_below(self._options.max_jobs, 1.0):
            return
        if self._catalog is not None:
            self._catalog.flush(FLUSH_SECONDS)
        self._keep_work_dir()
        self._take(self._ask(), surroundings)

    def _keep_work_dir(self) -> None:
        if self._work_dir.restore():
            self._log.warning(
                "%s was deleted by another program and was created again; exclude it from clean-up on this node",
                self._work_dir.root,
            )
            self._session.store_pilot_id()

    def _idle_left(self) -> float | None:
        return self._time.for_idling(has_jobs=len(self._jobs.table) > 0)

    def _ask(self) -> AcquireJobsResponse:
        jobs = len(self._jobs.table)
        state = None if self._catalog is None else self._catalog.state()
        return self._acquirer.acquire(
            self._options.max_jobs - jobs,
            self._time.for_asking(self._queue.latest, ACQUIRE_WAIT_SECONDS, has_jobs=jobs > 0),
            self._offer(),
            None if state is None else state_message(state),
            self._drain,
            self._idle_left(),
        )

    def _offer(self) -> Requirements:
        options = self._options
        disk = free_bytes(options.work_dir) if options.disk_bytes is None else options.disk_bytes
        offer = Requirements(
            memory_bytes=options.memory_bytes, cores=options.cores, disk_bytes=disk
        )
        left = self._time.for_payloads()
        if left is not None:
            offer.wall_time.CopyFrom(duration(left))
        return offer

    def _take(self, response: AcquireJobsResponse, surroundings: Surroundings) -> None:
        if response.inventory_requested and self._catalog is not None:
            self._catalog.ask_inventory()
        if response.drain:
            self.drain(why_to_end(self._queue.latest) or "the queue is going offline")
        given = [LiveJob(lease) for lease in response.leases]
        if self._drain.reason is not None:
            self._reporting.release(self._session.pilot_id, [job.reference() for job in given])
            return
        for job in given:
            queue = self._queue.at(job.spec.queue_revision)
            self._jobs.start(job, replace(surroundings, queue=queue))
        if not given:
            self._rest(response)
        elif self._heartbeat is not None:
            # The first lease is short, as the server does not know that it arrived: renew it now.
            self._heartbeat.beat_now()

    def _on_queue_change(self, queue: Queue) -> None:
        """Drains if the changed queue says so; running jobs keep their revision."""
        why = why_to_end(queue)
        if why is None and wants_isolation(queue.parameters) and not self._isolated:
            why = f"queue {queue.name} requires payloads to run under another account than the pilot's"
        if why is not None:
            self.drain(why)

    def _rest(self, response: AcquireJobsResponse) -> None:
        if response.idle_reason != self._idle_reason:
            self._idle_reason = response.idle_reason
            self._log.info("no job: %s", response.idle_reason or "the server gave no reason")
        idle_left = self._idle_left()
        pause = seconds(response.retry_after)
        self._drain.wait(pause if idle_left is None else min(pause, idle_left))

    def _end_by(self, failure: CallError) -> None:
        """Drains because the server refused the pilot or cannot be reached."""
        if failure.reason == "QUEUE_OFFLINE":
            self.drain(failure.message)
            return
        self._status = ExitStatus.UNREACHABLE if failure.transient else ExitStatus.REFUSED
        what = "cannot be reached" if failure.transient else "refuses the pilot"
        self._log.error("server %s %s: %s", self._connection.server, what, failure)
        self.drain(f"the server {what}")

    def _refused(self, failure: CallError) -> None:
        """Stops the running jobs too: the server refuses this pilot, so no result could be reported."""
        self._end_by(failure)
        self._jobs.halt()

    def _deregister(self) -> None:
        if self._reporting.has_undelivered():
            # Deregistering would end the leases that the reports need.
            self._log.warning(
                "not deregistered: undelivered reports remain in %s; the next pilot that starts with"
                " this --work-dir sends them",
                self._work_dir.reports,
            )
            return
        self._session.deregister(self._why)
