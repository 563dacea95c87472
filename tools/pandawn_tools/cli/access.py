"""`pandawn access`: who may submit to a queue, and how much."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from pandawn.queueconfig.v1 import access_pb2 as access
from pandawn_tools.cli import options, words
from pandawn_tools.cli.errors import CliError, usage_error, with_places
from pandawn_tools.cli.jsonout import message_json, print_json, print_messages
from pandawn_tools.cli.plain import PlainApp
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.tables import Cell, Column, print_fields, print_table
from pandawn_tools.cli.units import format_age, format_count, format_time

app = PlainApp(
    help="Show and change who may submit to a queue, and how much.", no_args_is_help=True
)

_EVERYBODY = "everybody"
_KINDS = {
    "user": access.SUBJECT_KIND_USER,
    "group": access.SUBJECT_KIND_GROUP,
    "token-group": access.SUBJECT_KIND_TOKEN_GROUP,
    "dn": access.SUBJECT_KIND_DN,
}
_COLUMNS = (
    Column("WHO", fold=True),
    Column("MAY"),
    Column("RUNNING", "right", optional=True),
    Column("WAITING", "right", optional=True),
    Column("PRIORITY", "right", optional=True),
    Column("UNTIL", optional=True),
    Column("BY", fold=True),
    Column("SINCE", "right"),
    Column("WHY", fold=True, optional=True),
)
# Options by the field that they set.
_OPTIONS = {
    "entry.subject": "SUBJECT",
    "subject": "SUBJECT",
    "entry.queue": "QUEUE",
    "queue": "QUEUE",
    "entry.max_running": "--max-running",
    "entry.max_waiting": "--max-waiting",
    "entry.priority_offset": "--priority",
    "entry.expire_time": "--for",
    "entry.message": "--message",
    "user": "USER",
}

Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="A user name, group:NAME, token-group:/PATH, dn:PATTERN, or everybody.",
    ),
]
Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]


@app.command("show")
def show(
    ctx: typer.Context,
    queue: Queue,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show the access list of a queue."""
    is_open = False
    with options.connect(ctx, server) as client:

        def page(token: str, size: int) -> access.ListAccessResponse:
            nonlocal is_open
            reply = client.call(
                client.queues.ListAccess,
                access.ListAccessRequest(queue=queue, page_token=token, page_size=size),
            )
            is_open = reply.is_open
            return reply

        rows, _ = client.pages(page, lambda reply: reply.entries, limit=None)
    if json_output:
        print_messages(rows)
        return
    now = datetime.now(UTC)
    print_table(
        _COLUMNS, (_row(entry, now) for entry in rows), empty=f"The list of {queue} is empty."
    )
    note(_openness(queue, is_open=is_open))


@app.command("grant")
def grant(
    ctx: typer.Context,
    subject: Subject,
    queue: Queue,
    deny: Annotated[
        bool, typer.Option("--deny", help="Refuse the subject, whatever other entries say.")
    ] = False,
    max_running: Annotated[
        int | None,
        typer.Option(
            callback=options.within(0, options.MAX_INT32),
            metavar="N",
            help="Maximum number of jobs of one user that run at a time; 0: no limit.",
        ),
    ] = None,
    max_waiting: Annotated[
        int | None,
        typer.Option(
            callback=options.within(0, options.MAX_INT32),
            metavar="N",
            help="Maximum number of jobs of one user that wait; 0: no limit.",
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            callback=options.within(-options.MAX_INT32, options.MAX_INT32),
            metavar="N",
            help="Number to add to the priority of tasks; may be negative.",
        ),
    ] = None,
    span: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TIME", help="Let the entry expire after this time, such as 7d."
        ),
    ] = None,
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="Reason, shown in the list.")
    ] = "",
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Let a subject submit to a queue, set its limits, or refuse it with --deny.

    Replaces the subject's entry: options that you leave out are unset.
    """
    kind, name = read_subject(subject)
    entry = access.AccessEntry(
        queue=queue,
        kind=kind,
        subject=name,
        effect=access.ACCESS_EFFECT_DENY if deny else access.ACCESS_EFFECT_ALLOW,
        max_running=max_running,
        max_waiting=max_waiting,
        priority_offset=priority,
        message=message,
    )
    ends_after = options.duration_option("--for", span)
    if ends_after is not None:
        entry.expire_time.FromDatetime(datetime.now(UTC) + ends_after)
    with options.connect(ctx, server) as client:
        try:
            reply = client.call(client.queues.GrantAccess, access.GrantAccessRequest(entry=entry))
        except CliError as error:
            raise with_places(error, lambda field: _OPTIONS.get(field, field)) from error
    if json_output:
        print_json(message_json(reply))
        return
    print_lines([f"{queue}: {_may(reply.entry)} {_who(reply.entry)}{_terms(reply.entry)}"])
    if reply.HasField("replaced") and reply.replaced != reply.entry:
        print_lines([f"before: {_may(reply.replaced)}{_terms(reply.replaced)}"])
    if not deny and reply.is_open:
        note(_openness(queue, is_open=True))


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    subject: Subject,
    queue: Queue,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Remove the entry of a subject from the access list of a queue."""
    kind, name = read_subject(subject)
    request = access.RevokeAccessRequest(queue=queue, kind=kind, subject=name)
    with options.connect(ctx, server) as client:
        try:
            reply = client.call(client.queues.RevokeAccess, request)
        except CliError as error:
            raise with_places(error, lambda field: _OPTIONS.get(field, field)) from error
    if json_output:
        print_json(message_json(reply))
        return
    print_lines([f"{queue}: removed {_may(reply.entry)} {_who(reply.entry)}{_terms(reply.entry)}"])
    note(_openness(queue, is_open=reply.is_open))


@app.command("check")
def check(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")],
    queue: Queue,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            "-g",
            metavar="GROUP",
            help="Check as if the user had this group. May be repeated. Default: the groups seen at the last call.",
        ),
    ] = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show whether a user may submit to a queue, how much, and which entries decide it."""
    request = access.CheckAccessRequest(user=user, queue=queue, groups=group or [])
    with options.connect(ctx, server) as client:
        try:
            reply = client.call(client.queues.CheckAccess, request)
        except CliError as error:
            raise with_places(error, lambda field: _OPTIONS.get(field, field)) from error
    if json_output:
        print_json(message_json(reply))
        return
    print_lines([reply.sentence])
    print_fields(_facts(reply))


def read_subject(text: str) -> tuple[access.SubjectKind.ValueType, str]:
    """Reads a subject, such as `group:atlas`, and returns its kind and name.

    Raises:
        CliError: The word before the colon is not a kind of subject.
    """
    if text == _EVERYBODY:
        return access.SUBJECT_KIND_EVERYBODY, ""
    word, colon, name = text.partition(":")
    if not colon:
        return access.SUBJECT_KIND_USER, text
    if word not in _KINDS:
        raise usage_error(
            "INVALID_OPTION",
            f"{text!r} is not a subject",
            remedies=[f"write USER, {', '.join(f'{kind}:NAME' for kind in _KINDS)} or everybody"],
        )
    return _KINDS[word], name


def _who(entry: access.AccessEntry) -> str:
    if entry.kind == access.SUBJECT_KIND_EVERYBODY:
        return _EVERYBODY
    if entry.kind == access.SUBJECT_KIND_USER and entry.subject != _EVERYBODY:
        return entry.subject
    return f"{words.subject_kind(entry.kind)}:{entry.subject}"


def _may(entry: access.AccessEntry) -> str:
    return words.access_effect(entry.effect)


def _limit(entry: access.AccessEntry, field: str) -> str:
    if not entry.HasField(field):  # type: ignore[arg-type]
        return ""
    return str(getattr(entry, field) or "no limit")


def _offset(entry: access.AccessEntry) -> str:
    return f"{entry.priority_offset:+d}" if entry.HasField("priority_offset") else ""


def _terms(entry: access.AccessEntry) -> str:
    said = [
        f"{name} {value}"
        for name, value in (
            ("running", _limit(entry, "max_running")),
            ("waiting", _limit(entry, "max_waiting")),
            ("priority", _offset(entry)),
            ("until", format_time(entry.expire_time)),
        )
        if value
    ]
    return f" ({', '.join(said)})" if said else ""


def _row(entry: access.AccessEntry, now: datetime) -> list[Cell]:
    is_over = entry.HasField("expire_time") and entry.expire_time.ToDatetime(UTC) <= now
    denies = entry.effect == access.ACCESS_EFFECT_DENY
    style = "dim" if is_over else "bold red" if denies else "green"
    return [
        _who(entry),
        Text("expired" if is_over else _may(entry), style=style),
        _limit(entry, "max_running"),
        _limit(entry, "max_waiting"),
        _offset(entry),
        format_time(entry.expire_time),
        entry.granted_by,
        format_age(entry.grant_time, now),
        entry.message,
    ]


def _openness(queue: str, *, is_open: bool) -> str:
    if is_open:
        return (
            f"{queue} is open: others may submit too, unless an entry denies it "
            "(parameter open_access of the queue)."
        )
    return f"Only subjects on the list may submit to {queue} (parameter open_access of the queue)."


def _facts(reply: access.CheckAccessResponse) -> Iterator[tuple[str, Cell]]:
    yield "running", _fact(reply.max_running, "at most", reply.running_count)
    yield "waiting", _fact(reply.max_waiting, "at most", reply.waiting_count)
    if reply.priority_offset.value:
        yield "priority", f"{reply.priority_offset.value:+d}{_source(reply.priority_offset)}"
    yield "groups", ", ".join(reply.groups)
    yield "credential", reply.subject
    for entry in reply.matching:
        yield "matches", f"{_may(entry)} {_who(entry)}{_terms(entry)}"
    if reply.match_count > len(reply.matching):
        yield "", f"and {reply.match_count - len(reply.matching):,} more entries that match"


def _fact(term: access.AccessTerm, most: str, now: int) -> str:
    limit = f"{most} {format_count(term.value, 'job')}" if term.value else "no limit"
    return f"{limit}{_source(term)}; {now:,} now"


def _source(term: access.AccessTerm) -> str:
    return f", by the entry for {_who(term.entry)}" if term.HasField("entry") else ""
