"""`pandawn queues import-cric`: imports the queues that CRIC or AGIS lists."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pandawn.queueconfig.v1 import document_pb2
from pandawn_tools.cli import options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, usage_error
from pandawn_tools.cli.queues.common import (
    Configuration,
    RemovalsOption,
    change_configuration,
    change_note,
    fetch_configuration,
    standing_revision,
    too_many_removals,
)
from pandawn_tools.cli.queues.cricout import Result, print_result
from pandawn_tools.cli.render import note
from pandawn_tools.cric.changes import Planned, plan_changes, take_back, vanished
from pandawn_tools.cric.document import CricList, DocumentError, read_list
from pandawn_tools.cric.findings import Outcome
from pandawn_tools.cric.memory import Memory, memory_file, recall, remember
from pandawn_tools.cric.reader import CricQueue, read_queue
from pandawn_tools.cric.report import make_report
from pandawn_tools.cric.source import Fetched, SourceError, fetch
from pandawn_tools.queuefiles.document import QUEUE, Key
from pandawn_tools.queuefiles.parameters import assign, parameters

# The server checks a document as a whole: without the refused parts, it may find other violations.
_MOST_PASSES = 5


class Vanished(Enum):
    """What to do with queues that CRIC does not list."""

    KEEP = "keep"
    OFFLINE = "offline"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class _Wish:
    """The arguments of the command."""

    source: str
    message: str
    only: tuple[str, ...]
    vanished: Vanished
    dry_run: bool
    allowed: int | None

    def is_meant(self, name: str) -> bool:
        """Whether the import includes a queue."""
        return not self.only or any(fnmatch.fnmatchcase(name, glob) for glob in self.only)


def import_cric(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL", help="CRIC's list of queues in JSON: a path, file: or http(s): URL."
        ),
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Change nothing. Needs no server; compares with one if it is named.",
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="GLOB", help="Only queues with matching names: 'ANALY_*'. Repeatable."
        ),
    ] = None,
    gone: Annotated[
        Vanished, typer.Option("--vanished", help="What to do with queues that CRIC does not list.")
    ] = Vanished.KEEP,
    allow_offline: RemovalsOption = None,
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="Why, for the history.")
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Certificates to trust for https, in PEM."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compare everything, even if nothing has changed.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all errors, not only the first.")
    ] = False,
    show_diff: Annotated[
        bool, typer.Option("--diff", help="Show each parameter that changes.")
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Import queues from CRIC or AGIS, and report mapped, ignored and wrong fields.

    Only parameters that CRIC lists change. If a field is wrong, its parameter does not change; if the name,
    site, state or status cannot be read, the whole queue does not change. May run every few minutes.
    """
    wish = _Wish(
        source=source,
        message=message or f"import of {source}",
        only=tuple(only or ()),
        vanished=gone,
        dry_run=dry_run,
        allowed=allow_offline,
    )

    def show(result: Result) -> None:
        print_result(result, json_output=json_output, everything=everything, diff=show_diff)

    # A dry run contacts no server unless one is named.
    if dry_run and options.address_of(ctx, server).is_default:
        body = _fetched(source, ca, None)
        queues, _ = _read(wish, body.body)
        show(Result(source, body.digest, make_report(queues), len(queues)))
        return
    with options.connect(ctx, server) as client:
        _import(client, wish, ca, show, fresh=fresh)


def _import(
    client: Client, wish: _Wish, ca: Path | None, show: Callable[[Result], None], *, fresh: bool
) -> None:
    path = memory_file(wish.source, client.address.target, wish.vanished.value, *wish.only)
    known = None if fresh or wish.dry_run else recall(path)
    if known is not None and standing_revision(client) != known.revision:
        # Somebody changed the configuration, and perhaps what CRIC decides.
        known = None
    fetched = _fetch(wish.source, ca, known)
    if known is not None and (fetched is None or fetched.digest == known.digest):
        note(f"nothing has changed: neither the list nor revision {known.revision} (see --fresh)")
        return
    if fetched is None:
        raise AssertionError("without a known version the server cannot answer `not modified`")
    queues, listed = _read(wish, fetched.body)
    try:
        sent = _send(client, wish, queues, listed)
    except _TooManyError as error:
        show(_result(wish, fetched, queues, error.sent))
        removals, limit = error.sent.reply.removals, error.sent.reply.removals_limit
        raise too_many_removals(removals, limit, "the import") from None
    except CliError:
        # The findings about the list do not depend on the server.
        show(Result(wish.source, fetched.digest, make_report(queues), len(queues), asked=True))
        raise
    show(_result(wish, fetched, queues, sent))
    if not wish.dry_run:
        versions = fetched.validators
        remember(
            path,
            Memory(fetched.digest, sent.reply.revision, versions.etag, versions.last_modified),
        )


@dataclass(frozen=True, slots=True)
class _Sent:
    """The server's answer to the changes, or to their preview."""

    reply: document_pb2.ApplyConfigResponse
    vanished: Sequence[str]


class _TooManyError(Exception):
    """More queues would be deleted or taken offline than allowed; nothing was changed."""

    def __init__(self, sent: _Sent) -> None:
        super().__init__()
        self.sent = sent


def _send(client: Client, wish: _Wish, queues: Sequence[CricQueue], listed: CricList) -> _Sent:
    """Sends the differences, without those that the server refuses; nothing if there are none."""
    before = fetch_configuration(client, [QUEUE])
    gone = [name for name in vanished(listed.queues, before.documents) if wish.is_meant(name)]
    planned = plan_changes(queues, before.documents)
    farewells = _farewells(wish, gone, before)
    reply = document_pb2.ApplyConfigResponse(revision=before.revision)
    request = _request(wish, before, planned, farewells)
    for _ in range(_MOST_PASSES):
        if not request.changes:
            return _Sent(document_pb2.ApplyConfigResponse(revision=before.revision), gone)
        reply = change_configuration(client, client.queues.ApplyConfig, request)
        busy = {*reply.queues_in_use} & {item.name for item in farewells if item.remove}
        if not reply.violations and not busy:
            break
        planned = take_back(planned, reply.violations)
        farewells = [item for item in farewells if item.name not in busy]
        for name in sorted(busy):
            note(f"queue {name} is not in CRIC and not deleted: it has jobs or pilots")
        request = _request(wish, before, planned, farewells)
    if wish.dry_run or not reply.diffs:
        return _Sent(reply, gone)
    if reply.removals > reply.removals_limit and (
        wish.allowed is None or reply.removals > wish.allowed
    ):
        raise _TooManyError(_Sent(reply, gone))
    request.validate_only = False
    return _Sent(change_configuration(client, client.queues.ApplyConfig, request), gone)


def _request(
    wish: _Wish,
    before: Configuration,
    planned: Sequence[Planned],
    farewells: Sequence[document_pb2.DocumentChange],
) -> document_pb2.ApplyConfigRequest:
    return document_pb2.ApplyConfigRequest(
        changes=[*(item.change for item in planned), *farewells],
        validate_only=True,
        expected_revision=before.revision,
        allowed_removals=wish.allowed,
        note=change_note(wish.message),
    )


def _farewells(
    wish: _Wish, gone: Sequence[str], before: Configuration
) -> list[document_pb2.DocumentChange]:
    """Returns the changes for queues that CRIC does not list."""
    offline = parameters()["status"].words["offline"]
    changes = []
    for name in gone:
        change = document_pb2.DocumentChange(kind=QUEUE, name=name)
        if wish.vanished is Vanished.DELETE:
            change.remove = True
        elif wish.vanished is Vanished.OFFLINE:
            if before.documents[Key(QUEUE, name)].status == offline:
                continue
            assign(change.parameters, parameters()["status"], offline)
            change.update_mask.paths.append("status")
        else:
            continue
        changes.append(change)
    return changes


def _result(wish: _Wish, fetched: Fetched, queues: Sequence[CricQueue], sent: _Sent) -> Result:
    return Result(
        wish.source,
        fetched.digest,
        make_report(queues),
        len(queues),
        reply=sent.reply,
        vanished=sent.vanished,
        kept=wish.vanished is Vanished.KEEP,
        dry_run=wish.dry_run,
    )


def _read(wish: _Wish, body: bytes) -> tuple[list[CricQueue], CricList]:
    try:
        listed = read_list(body)
    except DocumentError as error:
        raise usage_error(
            "NO_CRIC_LIST", f"{wish.source} is not a list of queues: {error}"
        ) from error
    queues = []
    for name, value in listed.queues.items():
        if not wish.is_meant(name):
            continue
        queue = read_queue(name, value)
        if name in listed.duplicates:
            queue.note("", Outcome.FATAL, note="it is listed twice")
        queues.append(queue)
    if not queues:
        # An empty list is more likely an accident than the end of the experiment.
        raise usage_error(
            "NO_QUEUES",
            f"{wish.source} lists no queue"
            + (f" called {' or '.join(wish.only)}" if wish.only else ""),
            details=["nothing was sent"],
        )
    return queues, listed


def _fetched(source: str, ca: Path | None, known: Memory | None) -> Fetched:
    fetched = _fetch(source, ca, known)
    assert fetched is not None, "without a known version the server cannot answer `not modified`"
    return fetched


def _fetch(source: str, ca: Path | None, known: Memory | None) -> Fetched | None:
    try:
        return fetch(source, ca=ca, known=None if known is None else known.validators)
    except SourceError as error:
        remedies = [error.remedy] if error.remedy else []
        raise usage_error("NO_CRIC_LIST", str(error), remedies=remedies) from error
