"""Converts tasks and jobs between messages and the domain, and checks the fields of a submission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pandawn.broker.v1 import broker_pb2, job_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn_server.domain.catalog.file_version import file_version
from pandawn_server.domain.dispatch.matching import sentence
from pandawn_server.domain.dispatch.reply_size import MAX_REPLY_BYTES
from pandawn_server.domain.leases.attempts import Attempt
from pandawn_server.domain.tasks.jobs import FINAL_STATES, Job, JobState
from pandawn_server.domain.tasks.tasks import (
    DEFAULT_MAX_ATTEMPTS,
    File,
    FileRole,
    TaskSpec,
    TaskState,
    TaskView,
)
from pandawn_server.usecases.dispatch.explain_job import Explanation
from pandawn_server.usecases.tasks.read import JobView
from pandawn_server.wire.edge.enums import FILE_ROLE, JOB_KIND, JOB_STATE, PHASE, TASK_STATE
from pandawn_server.wire.edge.pages import fitting
from pandawn_server.wire.edge.rules import text_problem
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import (
    from_file,
    from_requirements,
    to_duration,
    to_error,
    to_file,
    to_match,
    to_timestamp,
    to_use,
)

MAX_INPUTS = 500_000
"""Maximum number of input files of a task: all are in memory during submission."""

MAX_FILES_PER_JOB = 10_000
"""Maximum number of input files of a job; with long names fewer fit into the reply to a pilot."""

MAX_LABELS = 32
"""Maximum number of labels of a task; each is a row in the database."""

MAX_LABEL_BYTES = 255
"""Maximum length of a label's value."""

MAX_ARGUMENTS = 1000
"""Maximum number of arguments of a command."""

MAX_ARGUMENT_BYTES = 32 * 1024
"""Maximum length of an argument or an environment value; Linux allows 128 KiB for one."""

MAX_ENVIRONMENT = 200
"""Maximum number of environment variables of a payload."""

MAX_OUTPUTS = 50
"""Maximum number of output files of a job."""


def from_spec(check: Checker, message: task_pb2.TaskSpec) -> TaskSpec:
    """Converts a submitted task and checks its single fields; the domain checks the rules between fields."""
    check.user("task.user", message.user, required=False)
    check.dataset("task.dataset", message.dataset)
    check.queue("task.queue", message.queue, required=False)
    check.site("task.site", message.site, required=False)
    check.count("task.inputs", message.inputs, 0, MAX_INPUTS)
    check_inputs(check, message.inputs)
    check.range("task.files_per_job", message.files_per_job, 0, MAX_FILES_PER_JOB)
    check.range("task.job_count", message.job_count, 0, 2**31 - 1)
    _check_command(check, "task.command", message.command, required=True)
    _check_command(check, "task.build_command", message.build_command, required=False)
    _check_outputs(check, message)
    check.sandbox_id("task.sandbox_id", message.sandbox_id, required=False)
    _check_environment(check, message)
    check.range("task.priority", message.priority, -10_000, 10_000)
    check.range("task.max_attempts", message.max_attempts, 0, 20)
    return TaskSpec(
        user=message.user,
        dataset=message.dataset,
        command=tuple(message.command),
        queue=message.queue,
        site=message.site,
        inputs=tuple(map(from_input, message.inputs)),
        files_per_job=message.files_per_job or 1,
        job_count=message.job_count,
        outputs=tuple(message.outputs),
        build=message.build,
        build_command=tuple(message.build_command),
        sandbox_id=message.sandbox_id,
        environment=dict(message.environment),
        labels=from_labels(check, "task.labels", message.labels),
        requirements=from_requirements(check, "task.requirements", message.requirements),
        priority=message.priority,
        max_attempts=message.max_attempts or DEFAULT_MAX_ATTEMPTS,
        test=message.test,
    )


def check_inputs(check: Checker, inputs: Iterable[task_pb2.TaskInput], first: int = 0) -> None:
    """Checks input files; the first of them is input number `first` of the task."""
    for position, entry in enumerate(inputs, start=first):
        check.file(("task.inputs", position, "file"), entry.file)
        check.url(("task.inputs", position, "url"), entry.url)
        if entry.file.version:
            check.add(
                ("task.inputs", position, "file.version"),
                "must not be set: the server computes it from checksum, URL, modify_time and inode",
            )
        if entry.HasField("modify_time"):
            check.timestamp(("task.inputs", position, "modify_time"), entry.modify_time)


def from_labels(check: Checker, field: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Checks labels and returns them."""
    check.count(field, labels, 0, MAX_LABELS)
    for name, value in labels.items():
        path = f"{field}[{name[:64]!r}]"
        check.name(path, name)
        check.text(path, value, max_bytes=MAX_LABEL_BYTES)
    return dict(labels)


def from_input(message: task_pb2.TaskInput) -> File:
    """Converts an input, with the version that its own facts give; the site's immutable scopes are applied later."""
    modify_time_ns = None
    if message.HasField("modify_time"):
        # Not by `ToNanoseconds`: it raises for an invalid time, which `check_inputs` reports.
        modified = message.modify_time
        modify_time_ns = modified.seconds * 10**9 + modified.nanos
    version = file_version(
        message.url,
        checksum=message.file.checksum,
        modify_time_ns=modify_time_ns,
        inode=message.inode,
    )
    return from_file(message.file, message.url, version)


def _check_command(check: Checker, field: str, command: Sequence[str], *, required: bool) -> None:
    check.count(field, command, 1 if required else 0, MAX_ARGUMENTS)
    for position, argument in enumerate(command):
        size = len(argument.encode())
        check.require(
            size <= MAX_ARGUMENT_BYTES and "\0" not in argument,
            (field, position),
            f"has {size:,} bytes; it may have at most {MAX_ARGUMENT_BYTES:,}, and no NUL",
        )


def _check_outputs(check: Checker, message: task_pb2.TaskSpec) -> None:
    check.count("task.outputs", message.outputs, 0, MAX_OUTPUTS)
    for position, name in enumerate(message.outputs):
        path = ("task.outputs", position)
        # The LFN is `<dataset>.<task id>._<index>.<name>`, and an LFN has at most 255 bytes.
        check.name(path, name, max_characters=max(1, 235 - len(message.dataset)))


def _check_environment(check: Checker, message: task_pb2.TaskSpec) -> None:
    check.count("task.environment", message.environment, 0, MAX_ENVIRONMENT)
    for name, value in message.environment.items():
        path = f"task.environment[{name[:64]!r}]"
        check.require(
            name.isascii() and name.isidentifier(),
            path,
            "its name may have only letters, digits and _",
        )
        problem = text_problem(value.replace("\n", " ").replace("\t", " "), MAX_ARGUMENT_BYTES)
        if problem:
            check.add(path, problem)


def to_task(view: TaskView) -> task_pb2.Task:
    """Converts a task."""
    task, progress = view.task, view.progress
    ended = progress.state is not TaskState.RUNNING
    return task_pb2.Task(
        task_id=task.task_id,
        user=task.spec.user,
        dataset=task.spec.dataset,
        queue=task.queue,
        site=task.site,
        state=TASK_STATE.to_wire(progress.state),
        test=task.spec.test,
        labels=task.spec.labels,
        priority=task.spec.priority,
        job_counts=[
            task_pb2.StateCount(state=JOB_STATE.to_wire(state), count=progress.job_counts[state])
            for state in JobState
            if progress.job_counts.get(state)
        ],
        input_bytes=progress.input_bytes,
        bytes_from_cache=progress.bytes_from_cache,
        passed_over=view.task.passed_over,
        output_url=task.output_url,
        create_time=to_timestamp(task.create_time),
        end_time=to_timestamp(progress.last_state_time if ended else None),
    )


def to_job(job: Job) -> job_pb2.Job:
    """Converts a job."""
    job_phase = PHASE.to_wire(job.phase) if job.phase else common_pb2.PHASE_UNSPECIFIED
    return job_pb2.Job(
        job_id=job.job_id,
        task_id=job.task_id,
        index=job.index,
        kind=JOB_KIND.to_wire(job.kind),
        state=JOB_STATE.to_wire(job.state),
        user=job.user,
        queue=job.queue,
        priority=job.priority,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        node=job.node,
        phase=job_phase,
        input_bytes=job.input_bytes,
        bytes_from_cache=job.bytes_from_cache,
        error=to_error(job.error),
        parent_job_id=job.parent_job_id or 0,
        retry_job_id=job.retry_job_id or 0,
        create_time=to_timestamp(job.create_time),
        state_time=to_timestamp(job.state_time),
        cancel_requested=job.cancel_requested and job.state not in FINAL_STATES,
        failed_attempts=job.failures,
        lost_attempts=job.losses,
        retry_time=to_timestamp(job.retry_time),
        avoided_nodes=job.avoided,
        labels=job.labels,
    )


def to_job_view(view: JobView) -> broker_pb2.GetJobResponse:
    """Converts a job with its files, attempts and command."""
    spec = view.task.spec
    response = broker_pb2.GetJobResponse(
        job=to_job(view.job),
        files=[_to_job_file(role, file) for role, file in view.files],
        command=spec.command if view.job.kind.value == "run" else spec.build_command,
    )
    # The number of released attempts has no limit: return the last ones, which users look for.
    room = MAX_REPLY_BYTES - response.ByteSize()
    last = fitting(reversed(view.attempts), _to_attempt, room)
    response.attempts.extend(reversed(last))
    return response


def _to_job_file(role: FileRole, file: File) -> job_pb2.JobFile:
    return job_pb2.JobFile(file=to_file(file), url=file.url, role=FILE_ROLE.to_wire(role))


def _to_attempt(attempt: Attempt) -> job_pb2.Attempt:
    outcome = common_pb2.JOB_STATE_UNSPECIFIED
    if attempt.outcome is not None:
        outcome = JOB_STATE.to_wire(attempt.outcome)
    return job_pb2.Attempt(
        number=attempt.attempt,
        pilot_id=attempt.pilot_id,
        node=attempt.node,
        start_time=to_timestamp(attempt.start_time),
        end_time=to_timestamp(attempt.end_time),
        outcome=outcome,
        exit_code=attempt.exit_code,
        error=to_error(attempt.error),
        job_match=to_match(attempt.match, sentence(attempt.match, attempt.node)),
        resource_use=to_use(attempt.use),
        input_bytes=attempt.input_bytes,
        bytes_from_cache=attempt.bytes_from_cache,
        phase_times=[
            common_pb2.PhaseTime(phase=PHASE.to_wire(phase), duration=to_duration(spent))
            for phase, spent in attempt.phase_times.items()
        ],
        queue_revision=attempt.queue_revision,
    )


def to_explanation(explanation: Explanation) -> broker_pb2.ExplainJobResponse:
    """Converts the explanation of a job."""
    message = broker_pb2.ExplainJobResponse(
        job=to_job(explanation.job),
        summary=explanation.summary,
        obstacles=[
            job_pb2.Obstacle(
                predicate=o.predicate,
                excluded_nodes=o.excluded_nodes,
                detail=o.detail,
                remedy=o.remedy,
            )
            for o in explanation.obstacles
        ],
        node_count=explanation.node_count,
        jobs_ahead=explanation.jobs_ahead,
        shares=[
            job_pb2.NodeShare(node=share.node, local_bytes=share.local_bytes)
            for share in explanation.shares
        ],
        passed_over=explanation.passed_over,
        unversioned_inputs=explanation.unversioned_inputs,
    )
    if explanation.hold is not None:
        message.held_for = explanation.hold.node
        message.held_until_time.FromDatetime(explanation.hold.until)
    if explanation.match is not None:
        summary = sentence(explanation.match, explanation.match_node)
        message.job_match.CopyFrom(to_match(explanation.match, summary))
    return message
