"""`pandawn job` and `pandawn why`."""

import shlex
from collections.abc import Iterator

import typer

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import job_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import options, words
from pandawn_tools.cli.jobs import remark
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.render import location, print_lines, print_prose, state_text
from pandawn_tools.cli.tables import Cell, Column, print_fields, print_table
from pandawn_tools.cli.units import (
    format_count,
    format_duration,
    format_share,
    format_size,
    format_span,
    format_time,
)

_PHASES = {
    types.PHASE_STAGE_IN: "stage-in",
    types.PHASE_PAYLOAD: "payload",
    types.PHASE_STAGE_OUT: "stage-out",
}


def job(
    ctx: typer.Context,
    job_id: options.JobId,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show one job: its files, and what each attempt used and why it failed."""
    with options.connect(ctx, server) as client:
        found = client.call(client.broker.GetJob, broker.GetJobRequest(job_id=job_id))
    if json_output:
        print_json(message_json(found))
        return
    print_fields(_facts(found))
    if found.files:
        print_lines([""])
        print_lines(line for file in found.files for line in _file(file))
    for attempt in found.attempts:
        print_lines([""])
        print_fields(_attempt(attempt))


def why(
    ctx: typer.Context,
    job_id: options.JobId,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Explain why a job does not run, or why it ran where it did."""
    with options.connect(ctx, server) as client:
        answer = client.call(client.broker.ExplainJob, broker.ExplainJobRequest(job_id=job_id))
    if json_output:
        print_json(message_json(answer))
        return
    print_prose(answer.summary)
    waits = answer.job.state == types.JOB_STATE_ACTIVATED
    print_fields(_waiting(answer) if waits else _match(answer.job_match))
    print_fields([("not chosen", answer.passed_over)])
    if answer.obstacles:
        print_lines([""])
        print_table(
            (
                Column("CONDITION"),
                Column("NODES", "right"),
                Column("WHY", fold=True),
                Column("WHAT WOULD HELP", fold=True),
            ),
            (
                [obstacle.predicate, obstacle.excluded_nodes, obstacle.detail, obstacle.remedy]
                for obstacle in answer.obstacles
            ),
            empty="",
        )
    if answer.shares:
        print_lines([""])
        print_table(
            (Column("NODE", fold=True), Column("HOLDS", "right"), Column("OF INPUT", "right")),
            (
                [
                    share.node,
                    format_size(share.local_bytes),
                    format_share(share.local_bytes, answer.job.input_bytes),
                ]
                for share in answer.shares
            ),
            empty="",
        )


def _file(file: job_pb2.JobFile) -> Iterator[str]:
    yield f"{words.file_role(file.role):<8} {file.file.lfn}  {_size(file)}"
    # On its own line, so that it is easy to copy.
    yield f"         {location(file.url)}"


def _size(file: job_pb2.JobFile) -> str:
    written = file.role in {job_pb2.FILE_ROLE_OUTPUT, job_pb2.FILE_ROLE_LOG}
    # An output gets its size and checksum when it is stored.
    return (
        "not stored yet"
        if written and not file.file.checksum
        else format_size(file.file.size_bytes)
    )


def _facts(found: broker.GetJobResponse) -> Iterator[tuple[str, Cell]]:
    item = found.job
    state = state_text(words.job_state(item.state))
    if remark(item):
        state.append(f" ({remark(item)})", style="default")
    yield (
        "job",
        f"{item.job_id}, {words.job_kind(item.kind)} job {item.index} of task {item.task_id}",
    )
    yield "state", state
    yield "since", format_time(item.state_time)
    yield "user", item.user
    yield "queue", f"{item.queue}, priority {item.priority}"
    yield "node", item.node
    yield "attempts", f"{item.attempt} of {item.max_attempts}"
    yield "input", _input(item.input_bytes, item.bytes_from_cache, staged=item.attempt > 0)
    yield "error", _error(item.error) if item.HasField("error") else ""
    yield "replaces", f"job {item.parent_job_id}" if item.parent_job_id else ""
    yield "replaced by", f"job {item.retry_job_id}" if item.retry_job_id else ""
    yield "submitted", format_time(item.create_time)
    yield "labels", ", ".join(f"{name}={value}" for name, value in sorted(item.labels.items()))
    yield "command", shlex.join(found.command)


def _attempt(attempt: job_pb2.Attempt) -> Iterator[tuple[str, Cell]]:
    live = not attempt.HasField("end_time")
    outcome = words.job_state(attempt.outcome)
    yield f"attempt {attempt.number}", f"on {attempt.node}, pilot {attempt.pilot_id}"
    yield (
        "outcome",
        "" if live else ("returned" if outcome == "activated" else state_text(outcome)),
    )
    yield "began", format_time(attempt.start_time)
    if attempt.queue_revision:
        yield "queue", f"as of revision {attempt.queue_revision}"
    if not live:
        lasted = attempt.end_time.ToDatetime() - attempt.start_time.ToDatetime()
        yield "lasted", format_span(lasted) + _phases(attempt)
    yield "exit code", str(attempt.exit_code) if attempt.HasField("exit_code") else ""
    yield "error", _error(attempt.error) if attempt.HasField("error") else ""
    if attempt.input_bytes:
        yield "input", _input(attempt.input_bytes, attempt.bytes_from_cache, staged=True)
    if attempt.HasField("resource_use"):
        use = attempt.resource_use
        yield (
            "used",
            (
                f"{use.cpu_seconds:.1f} s CPU, {format_size(use.max_rss_bytes)} memory, "
                f"{format_size(use.work_dir_bytes)} disk"
            ),
        )
    yield "why there", attempt.job_match.summary


def _phases(attempt: job_pb2.Attempt) -> str:
    spans = [
        f"{_PHASES.get(spent.phase, 'other')} {format_duration(spent.duration)}"
        for spent in attempt.phase_times
    ]
    return f" ({', '.join(spans)})" if spans else ""


def _input(size: int, cached: int, *, staged: bool) -> str:
    if not size or not staged:
        return format_size(size)
    return f"{format_size(size)}, {format_share(cached, size)} from the node's cache"


def _error(error: types.JobError) -> str:
    return f"{error.reason} ({words.component(error.component)} {error.code}): {error.text}"


def _waiting(answer: broker.ExplainJobResponse) -> Iterator[tuple[str, Cell]]:
    yield "jobs before it", str(answer.jobs_ahead)
    yield "nodes in contact", str(answer.node_count)
    if answer.held_for:
        yield "held for", f"{answer.held_for}, until {format_time(answer.held_until_time)} at most"
    # For a job that is retried.
    yield "last attempt", answer.job_match.summary


def _match(match: types.Match) -> Iterator[tuple[str, Cell]]:
    if not match.rule:
        return
    yield "decided by", words.match_rule(match.rule)
    if match.locality == types.LOCALITY_UNKNOWN:
        yield "node held", "unknown: the catalog did not answer"
    elif match.input_bytes:
        share = format_share(match.local_bytes, match.input_bytes)
        held = format_size(match.local_bytes)
        yield "node held", f"{held} of {format_size(match.input_bytes)} ({share})"
    yield "compared", format_count(match.candidates, "job")
    yield "held for others", format_count(match.held, "job") if match.held else ""
    yield "was runnable for", format_duration(match.waited)
