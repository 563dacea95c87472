"""Runs one job: stage-in, payload, stage-out, log. Returns its report, or None if the lease is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from pandawn.common.v1.common_pb2 import (
    JOB_KIND_BUILD,
    PHASE_PAYLOAD,
    PHASE_STAGE_IN,
    PHASE_STAGE_OUT,
)
from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile, JobSpec
from pandawn.dispatcher.v1.report_pb2 import JobReport, StoredFile
from pandawn.queueconfig.v1.queue_pb2 import Queue
from pandawn_client.connection import Connection
from pandawn_client.durations import seconds
from pandawn_pilot.cache.input_cache import InputCache
from pandawn_pilot.errors import (
    CANCELLED,
    NO_LOCAL_SPACE,
    NO_WORK_DIR,
    OUTPUT_MISSING,
    PAYLOAD_NOT_FOUND,
    PILOT_ERROR,
    PILOT_OUT_OF_TIME,
    PILOT_STOPPED,
    PROGRAM_NOT_FOUND,
    WALL_TIME_EXCEEDED,
    Fault,
    JobFailedError,
)
from pandawn_pilot.job.archives import pack, unpack
from pandawn_pilot.job.lending import find_output, lent, may_offer
from pandawn_pilot.job.live_job import LiveJob
from pandawn_pilot.job.log_tarball import pack_log
from pandawn_pilot.job.report import PhaseClock, make_report
from pandawn_pilot.job.sandbox import bring_sandbox
from pandawn_pilot.job.stage_in import DEFAULT_TRIES, StageIn, local_names
from pandawn_pilot.job.stage_out import StageOut
from pandawn_pilot.job.work_dir import JobDir
from pandawn_pilot.logs import JobLog, visible
from pandawn_pilot.node import clock
from pandawn_pilot.node.accounts import Accounts
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.node.trees import remove_tree
from pandawn_pilot.payload.command import (
    find_program,
    inputs_variable,
    payload_environment,
    substitute_inputs,
)
from pandawn_pilot.payload.ending import NOT_EXECUTABLE_STATUS, NOT_FOUND_STATUS
from pandawn_pilot.payload.leftovers import MARK
from pandawn_pilot.payload.program import Program
from pandawn_pilot.payload.queue_rules import (
    behind_setup,
    local_input,
    queue_environment,
    uses_cache,
)
from pandawn_pilot.payload.run import PayloadLimits, Use, run_payload
from pandawn_pilot.stop import StoppedError, StopReason
from pandawn_pilot.xrootd.local_server import LocalServer
from pandawn_transports.account import Account

# Longer commands are shortened in the log.
MAX_COMMAND_CHARACTERS = 2000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Surroundings:
    """What a job needs from its pilot. `deadline`, by clock.now(), is when payloads must end."""

    connection: Connection
    cache: InputCache | None
    # Renews the job's lease at the server; raises StoppedError if it is over.
    renew_now: Callable[[LiveJob], None]
    deadline: float | None
    accounts: Accounts
    # The revision under which the job was leased.
    queue: Queue
    local_server: LocalServer | None = None
    # Whether payloads with another account can have their own name spaces.
    name_spaces: bool = False
    # Replaces a payload's failure if a signal to the pilot caused it.
    excuse: Callable[[JobFailedError, int], JobFailedError] = lambda failure, _code: failure


class JobRunner:
    """Runs one attempt in its directory."""

    def __init__(
        self, job: LiveJob, directory: JobDir, surroundings: Surroundings, log: JobLog
    ) -> None:
        self._job = job
        self._dir = directory
        self._pilot = surroundings
        self._log = log
        self._clock = PhaseClock(job)
        self._stage_in = StageIn(
            surroundings.cache if uses_cache(surroundings.queue.parameters) else None,
            job.stop,
            log,
            surroundings.local_server,
            expect_local=job.lease.job_match.local_bytes > 0,
            reader=surroundings.accounts.reader(),
            tries=surroundings.queue.parameters.stage_in_attempts or DEFAULT_TRIES,
        )
        self._exit_code: int | None = None
        self._payload_started = False
        # Account of the payload; None: the pilot's own.
        self._account: Account | None = None

    def run(self) -> JobReport | None:
        """Runs the job; None when its payload was not started, or when its lease is over.

        Unless its lease is over, the caller must release such a job.
        """
        outputs: list[StoredFile] = []
        failure: JobFailedError | None = None
        log: StoredFile | None = None
        try:
            outputs = self._work()
        except StoppedError as stopped:
            if stopped.reason is StopReason.STALE:
                return None
            if stopped.reason is not StopReason.CANCELLED and not self._payload_started:
                return None
            cancelled = stopped.reason is StopReason.CANCELLED
            failure = JobFailedError(CANCELLED if cancelled else PILOT_STOPPED, str(stopped))
        except JobFailedError as failed:
            failure = failed
        except OSError as error:
            failure = JobFailedError(
                NO_LOCAL_SPACE if error.errno in _FULL else PILOT_ERROR, str(error)
            )
        except Exception as error:  # noqa: BLE001 (a worker loop)
            # Even then the job must be reported.
            self._log.exception("the job failed with an internal error of the pilot")
            failure = JobFailedError(PILOT_ERROR, f"{type(error).__name__}: {error}")
        if failure is not None:
            failure = self._of_a_lost_directory(failure)
            self._log.error("job failed: %s", failure)
        try:
            log = self._store_log()
        except StoppedError as stopped:
            if stopped.reason is StopReason.STALE:
                return None
        return make_report(
            self._job,
            failure=failure,
            exit_code=self._exit_code,
            outputs=outputs,
            log=log,
            sums=self._stage_in.sums,
            times=self._clock.times(),
        )

    def _of_a_lost_directory(self, failure: JobFailedError) -> JobFailedError:
        """NO_WORK_DIR in place of a failure if the job's directory was deleted meanwhile."""
        if failure.fault in (CANCELLED, PILOT_STOPPED) or self._dir.is_there():
            return failure
        return JobFailedError(
            NO_WORK_DIR,
            f"{self._dir.root} was deleted while the job ran; exclude it from clean-up on this node"
            f" ({failure})",
        )

    def _work(self) -> list[StoredFile]:
        spec = self._job.spec
        with self._pilot.accounts.borrow() as self._account:
            self._stage_in_and_run()
        with self._clock.phase(PHASE_STAGE_OUT):
            self._job.stop.check()
            self._log.info("stage-out of %d files", len(spec.outputs))
            return self._store_outputs()

    def _stage_in_and_run(self) -> None:
        spec = self._job.spec
        with self._clock.phase(PHASE_STAGE_IN):
            queue = self._pilot.queue
            self._log.info("using revision %d of queue %s", queue.revision, queue.name)
            self._log.info("stage-in of %d files", len(spec.inputs))
            self._stage_in.check_limits(spec.inputs, spec.limits, self._dir.work)
            names = self._bring_files()
        with self._clock.phase(PHASE_PAYLOAD):
            self._job.stop.check()
            if spec.command:
                self._run_payload(names)

    def _bring_files(self) -> list[str]:
        spec, work, stop = self._job.spec, self._dir.work, self._job.stop
        max_bytes = spec.limits.max_work_dir_bytes
        inputs = [local_input(item, self._pilot.queue.parameters) for item in spec.inputs]
        own = [item for item in inputs if not item.library]
        if spec.sandbox_id:
            archive = self._dir.root / "sandbox.tar.gz"
            cache = self._pilot.cache if uses_cache(self._pilot.queue.parameters) else None
            connection = self._pilot.connection
            bring_sandbox(cache, connection, spec.sandbox_id, archive, stop, self._log)
            unpack(archive, work, max_bytes=max_bytes, stop=stop, account=self._account)
            archive.unlink()
        for library in (item for item in inputs if item.library):
            self._unpack_library(library, max_bytes)
        names = local_names(own)
        for item, name in zip(own, names):
            # Replace a link of that name; do not write through it.
            if (work / name).is_symlink():
                (work / name).unlink()
            self._stage_in.bring(item, work / name)
        return names

    def _unpack_library(self, library: InputFile, max_bytes: int) -> None:
        archive = self._dir.root / "library.tar.gz"
        self._stage_in.bring(library, archive)
        unpack(
            archive,
            self._dir.work,
            max_bytes=max_bytes,
            stop=self._job.stop,
            account=self._account,
        )
        archive.unlink()

    def _run_payload(self, names: list[str]) -> None:
        spec, queue = self._job.spec, self._pilot.queue.parameters
        self._dir.inputs.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        self._dir.inputs.chmod(0o644)
        about = {
            "PANDAWN_JOB_ID": str(spec.job_id),
            "PANDAWN_TASK_ID": str(spec.task_id),
            "PANDAWN_ATTEMPT": str(self._job.lease.attempt),
            "PANDAWN_JOB_INDEX": str(spec.index),
            "PANDAWN_INPUTS_FILE": str(self._dir.inputs),
            MARK: str(self._dir.work),
            **inputs_variable(names),
        }
        environment = payload_environment(
            os.environ,
            spec.environment,
            about,
            self._dir.work,
            self._dir.tmp,
            self._account,
            queue_environment(queue),
        )
        arguments = substitute_inputs(spec.command, names)
        try:
            if queue.setup_command:
                arguments = behind_setup(queue, arguments)
            arguments[0] = find_program(
                arguments[0], environment.get("PATH", ""), self._dir.work, self._account
            )
        except JobFailedError as failure:
            self._exit_code = _shell_code(failure.fault)
            raise
        program = Program(
            arguments,
            environment,
            self._dir.work,
            self._dir.stdout,
            self._dir.stderr,
            measured=self._dir.root,
            account=self._account,
            separate=self._account is not None and self._pilot.name_spaces,
            behind_setup=bool(queue.setup_command),
        )
        self._payload_started = True
        who = "" if self._account is None else f" (as {self._account.name})"
        self._log.info(
            "payload starts%s: %s", who, visible(" ".join(arguments), MAX_COMMAND_CHARACTERS)
        )
        inputs = [self._dir.work / name for name in names]
        with lent(self._dir, self._account, inputs, self._job.stop):
            end = run_payload(
                program, self._limits(), self._record_use, self._job.stop, self._log.warning
            )
        self._exit_code = end.exit_code
        self._record_use(end.use)
        self._log.info(
            "payload ended with status %d, %.1f s of CPU time, %d bytes of memory",
            end.exit_code,
            end.use.cpu_seconds,
            end.use.max_rss_bytes,
        )
        # A requested stop is the cause, whatever status the payload returned.
        self._job.stop.check()
        if end.failure is not None:
            raise self._pilot.excuse(end.failure, end.exit_code)

    def _limits(self) -> PayloadLimits:
        limits = self._job.spec.limits
        wall, fault = seconds(limits.max_wall_time) or None, WALL_TIME_EXCEEDED
        if self._pilot.deadline is not None:
            left = max(0.0, self._pilot.deadline - clock.now())
            if wall is None or left < wall:
                wall, fault = left, PILOT_OUT_OF_TIME
        return PayloadLimits(wall, fault, limits.max_work_dir_bytes, limits.memory_bytes)

    def _store_outputs(self) -> list[StoredFile]:
        spec = self._job.spec
        if spec.kind == JOB_KIND_BUILD:
            return [self._store_library()]
        stage_out = self._stage_out()
        return [
            stage_out.store(find_output(self._dir, item.name, self._account), item)
            for item in spec.outputs
        ]

    def _store_library(self) -> StoredFile:
        outputs = self._job.spec.outputs
        if len(outputs) != 1:
            raise JobFailedError(
                OUTPUT_MISSING, f"a build job must have one output, its library, not {len(outputs)}"
            )
        library = self._dir.root / "packed.tar.gz"
        pack(self._dir.work, library, self._job.stop, lambda of: may_offer(of, self._account))
        stored = self._stage_out(is_library=True).store(library, outputs[0])
        library.unlink()
        return stored

    def _store_log(self) -> StoredFile | None:
        """Stores the log tarball; a job does not fail without it."""
        if not self._job.spec.log.url:
            return None
        with self._clock.phase(PHASE_STAGE_OUT):
            archive = self._dir.root / "log.tar.gz"
            try:
                self._job.abandon.check()
                self._pack_log(archive)
                return self._stage_out(is_log=True).store(archive, self._job.spec.log)
            except (JobFailedError, OSError) as failure:
                self._log.warning("log tarball not stored: %s", failure)
                return None

    def _pack_log(self, archive: Path) -> None:
        try:
            pack_log(self._dir, archive)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # Outputs are stored by now, so the directory can make room.
            remove_tree(self._dir.work)
            pack_log(self._dir, archive)

    def _stage_out(self, *, is_log: bool = False, is_library: bool = False) -> StageOut:
        return StageOut(
            self._job.spec.job_id,
            self._job.lease.attempt,
            # Each attempt's log has its own name: no need to ask the server.
            self._job.abandon.check if is_log else lambda: self._job.confirm(self._pilot.renew_now),
            # Store the log of a cancelled job, too.
            self._job.abandon if is_log else self._job.stop,
            self._log,
            self._pilot.queue.parameters.stage_out_attempts or DEFAULT_TRIES,
            storage_root=self._pilot.queue.parameters.storage_root,
            is_log=is_log,
            is_library=is_library,
        )

    def _record_use(self, use: Use) -> None:
        self._job.use = use


def prepare(job: LiveJob, directory: JobDir) -> None:
    """Creates the job's directory and writes job.json. Raises JobFailedError."""
    try:
        directory.create()
        # Without the lease token, which is secret: the log tarball includes this file.
        text = json_format.MessageToJson(
            _without_values(job.spec), preserving_proto_field_name=True
        )
        replace_text(directory.spec, text + "\n", private=True)
    except OSError as error:
        raise JobFailedError(NO_WORK_DIR, f"cannot create {directory.root}: {error}") from error


def _without_values(spec: JobSpec) -> JobSpec:
    """The job without the values of variables, which may be secrets of the user."""
    shown = JobSpec()
    shown.CopyFrom(spec)
    # A copy of the names: writing during the iteration would skip entries.
    for name in list(shown.environment):
        shown.environment[name] = "(not shown)"
    return shown


def _shell_code(fault: Fault) -> int:
    absent = fault in (PAYLOAD_NOT_FOUND, PROGRAM_NOT_FOUND)
    return NOT_FOUND_STATUS if absent else NOT_EXECUTABLE_STATUS
