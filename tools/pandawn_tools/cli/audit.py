"""`pandawn audit`: lists who changed what, from where, and with which outcome."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from pandawn.monitor.v1 import audit_pb2
from pandawn_tools.cli import options
from pandawn_tools.cli.errors import CliError, usage_error, with_places
from pandawn_tools.cli.jsonout import print_messages
from pandawn_tools.cli.render import note, stdout_console
from pandawn_tools.cli.tables import Cell, Column, print_table
from pandawn_tools.cli.units import format_time, parse_duration

_COLUMNS = (
    Column("WHEN"),
    Column("WHO", fold=True),
    Column("FROM", fold=True),
    Column("WHAT"),
    Column("ABOUT", fold=True),
    Column("OUTCOME", fold=True),
    Column("CALLS", "right", optional=True),
)
# From this width on, and in a pipe, there is room for the message of a refusal beside its reason.
_WIDE = 160
# The audit of a busy server is longer than anybody reads, so there is a limit in a pipe too; a note says so.
_LimitOption = Annotated[
    int,
    typer.Option(
        "--limit",
        "-n",
        callback=options.positive_int32,
        metavar="N",
        help="Show at most N rows.",
    ),
]
_OPTIONS = {"rpc": "--rpc", "user": "--user", "queue": "--queue", "task_id": "--task"}
_DENIALS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})


def audit(
    ctx: typer.Context,
    user: options.UserFilter = None,
    rpc: Annotated[
        str | None,
        typer.Option(
            "--rpc", metavar="METHOD", help="Only calls of this method, such as SubmitTask."
        ),
    ] = None,
    queue: options.QueueFilter = None,
    task: options.TaskFilter = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only calls since then: a time, or a duration before now. Examples: 2026-03-08, 2h.",
        ),
    ] = None,
    denied: Annotated[
        bool,
        typer.Option("--denied", help="Only calls that were refused because of who made them."),
    ] = False,
    limit: _LimitOption = options.DEFAULT_LIMIT,
    everything: options.AllOption = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """List changes and refused calls, newest first.

    Operators see all calls, site administrators those about their sites and queues. On a terminal of fewer
    than 160 columns, OUTCOME is only the reason; --json has the message too.
    """
    request = audit_pb2.ListAuditRequest(
        user=user or "",
        rpc=rpc or "",
        queue=queue or "",
        task_id=task or 0,
        denied_only=denied,
    )
    if since is not None:
        request.since_time.FromDatetime(read_since(since, datetime.now(UTC)))

    def page(token: str, size: int) -> audit_pb2.ListAuditResponse:
        request.page_token, request.page_size = token, size
        return client.call(client.monitor.ListAudit, request)

    with options.connect(ctx, server) as client:
        try:
            rows, more = client.pages(
                page, lambda reply: reply.records, limit=options.limit_or_none(limit, everything)
            )
        except CliError as error:
            raise with_places(error, lambda field: _OPTIONS.get(field, field)) from error
    if json_output:
        print_messages(rows)
    else:
        wide = stdout_console().width >= _WIDE
        print_table(
            _COLUMNS,
            (_row(row, wide=wide) for row in rows),
            empty="The audit has no such calls.",
        )
    if more:
        note(f"Only the newest {len(rows)} are shown. --limit N or --all shows more.")


def read_since(text: str, now: datetime) -> datetime:
    """Reads a duration before `now`, a date, or a date with a time, in the user's time zone.

    Raises:
        CliError: It is none of them.
    """
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise usage_error(
            "INVALID_OPTION",
            f"--since {text}: it is neither a time nor a duration",
            remedies=["write it like 2h, 3d, 2026-03-08 or 2026-03-08T14:30"],
        ) from None


def _row(line: audit_pb2.AuditRecord, *, wide: bool) -> list[Cell]:
    outcome = line.reason or line.code
    if line.reason and wide:
        outcome = f"{line.reason}: {line.text}"
    style = "green" if line.code == "OK" else "bold red" if line.code in _DENIALS else "yellow"
    return [
        format_time(line.audit_time),
        _who(line),
        line.peer,
        # Names of methods are unique over all services.
        line.rpc.rpartition(".")[2],
        _about(line),
        Text(outcome, style=style),
        "" if line.call_count == 1 else line.call_count,
    ]


def _who(line: audit_pb2.AuditRecord) -> str:
    name = line.user or line.subject
    if not line.method:
        return "?"
    return name if name == line.method else f"{name} ({line.method})"


def _about(line: audit_pb2.AuditRecord) -> str:
    words = []
    if line.job_id:
        words.append(f"job {line.job_id}")
    elif line.task_id:
        words.append(f"task {line.task_id}")
    if line.queue:
        words.append(f"queue {line.queue}")
    elif line.site:
        words.append(f"site {line.site}")
    if line.node:
        words.append(f"node {line.node}")
    if line.thing:
        words.append(line.thing)
    return ", ".join(words)
