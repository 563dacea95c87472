"""Shared parts of `pandawn queues`: options, documents of the server, assignments on the command line."""

# grpc's classes are generic in their type stubs only.
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, TypeVar

import grpc
import typer
from google.protobuf.message import Message

from pandawn.queueconfig.v1 import document_pb2, parameters_pb2, revision_pb2
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error, with_places
from pandawn_tools.cli.render import note
from pandawn_tools.queuefiles.document import QUEUE, SITE, Key
from pandawn_tools.queuefiles.legacy import convert
from pandawn_tools.queuefiles.parameters import Parameter, assign, old_names, parameters
from pandawn_tools.queuefiles.problems import suggestion
from pandawn_tools.queuefiles.values import from_text, plain

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]
MessageOption = Annotated[
    str, typer.Option("--message", "-m", metavar="TEXT", help="Reason, for the history.")
]
RemovalsOption = Annotated[
    int | None,
    typer.Option(
        "--allow-offline",
        metavar="N",
        min=0,
        show_default=False,
        help="Queues that may be deleted or taken offline; by default a quarter of all.",
    ),
]


def change_note(message: str) -> document_pb2.ChangeNote:
    """Returns the note that the server records with a change."""
    return document_pb2.ChangeNote(message=message, tool=f"pandawn {version('pandawn')}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """All documents of one revision."""

    revision: int
    documents: Mapping[Key, parameters_pb2.QueueParameters]

    def of_site(self, site: str | None) -> Configuration:
        """Returns the documents of a site and its queues; all of them for None."""
        if site is None:
            return self
        mine = {
            key: values
            for key, values in self.documents.items()
            if (key.kind == SITE and key.name == site)
            # A queue without a site is its own site.
            or (key.kind == QUEUE and (values.site or key.name) == site)
        }
        return Configuration(self.revision, mine)


def fetch_configuration(
    client: Client, kinds: Sequence[document_pb2.DocumentKind.ValueType] = ()
) -> Configuration:
    """Reads all documents of the given kinds; of all kinds if none is given."""
    found: dict[Key, parameters_pb2.QueueParameters] = {}

    def from_the_start() -> document_pb2.ExportConfigRequest:
        found.clear()
        return document_pb2.ExportConfigRequest(kinds=kinds)

    revision = 0
    for reply in client.follow(client.queues.ExportConfig, from_the_start):
        revision = reply.revision
        for document in reply.documents:
            found[Key(document.kind, document.name)] = document.parameters
    return Configuration(revision, found)


ChangeT = TypeVar("ChangeT", document_pb2.ApplyConfigRequest, revision_pb2.RollbackRequest)
ChangedT = TypeVar("ChangedT", document_pb2.ApplyConfigResponse, revision_pb2.RollbackResponse)


def change_configuration(
    client: Client, method: grpc.UnaryUnaryMultiCallable[ChangeT, ChangedT], request: ChangeT
) -> ChangedT:
    """Plans a change or makes it; returns one reply with all differences, which may come in several.

    Raises:
        CliError: The server refused, or the configuration was changed between two pages of a plan.
    """
    reply = client.call(method, request)
    following = type(request)()
    following.CopyFrom(request)
    while reply.next_page_token:
        following.page_token = reply.next_page_token
        reply.ClearField("next_page_token")
        reply.MergeFrom(client.call(method, following))
    if len(reply.diffs) < reply.diff_count:
        made = revision_pb2.DiffRevisionsRequest(
            from_revision=reply.revision - 1, to_revision=reply.revision
        )
        # By document: a stream that breaks off begins again.
        rest = {
            Key(diff.kind, diff.name): diff
            for part in client.follow(client.queues.DiffRevisions, lambda: made)
            for diff in part.diffs
        }
        for diff in reply.diffs:
            del rest[Key(diff.kind, diff.name)]
        reply.diffs.extend(rest.values())
    return reply


def standing_revision(client: Client) -> int:
    """Returns the number of the current revision; 0 if there is none."""
    request = revision_pb2.ListRevisionsRequest(page_size=1)
    newest = client.call(client.queues.ListRevisions, request).revisions
    return newest[0].number if newest else 0


def read_assignments(pairs: Iterable[str]) -> parameters_pb2.QueueParameters:
    """Reads assignments `PARAMETER=VALUE` of the command line, with current or old names.

    Raises:
        CliError: Some are invalid; the error lists all of them.
    """
    queue = parameters_pb2.QueueParameters()
    wrong: list[str] = []
    remedies: list[str] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            wrong.append(f"{pair}: write PARAMETER=VALUE")
            continue
        try:
            _read_assignment(queue, name.strip(), text)
        except UnknownParameterError as error:
            wrong.append(f"{name}: {error}")
            remedies = ["list all parameters: pandawn queues show QUEUE --origin"]
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise usage_error("INVALID_PARAMETER", "nothing was sent", details=wrong, remedies=remedies)
    return queue


class UnknownParameterError(ValueError):
    """A name that is neither a current nor an old name of a parameter."""


def _read_assignment(queue: parameters_pb2.QueueParameters, name: str, text: str) -> None:
    known = parameters()
    if name in known:
        _set_once(queue, known[name], lambda: from_text(known[name], text))
        return
    for parameter, old in old_names().get(name, ()):
        converted = convert(parameter, old, text)
        if converted.value is None:
            raise ValueError(f"{converted.note}; to unset {parameter.name}, reset it")
        value = converted.value
        _set_once(queue, parameter, lambda value=value: value)  # type: ignore[misc]
        note(f"{name} is called {parameter.name} now: {plain(parameter, value)}")
    if name not in old_names():
        raise UnknownParameterError(
            f"there is no such parameter{suggestion(name, [*known, *old_names()])}"
        )


def _set_once(
    queue: parameters_pb2.QueueParameters, parameter: Parameter, read: Callable[[], object]
) -> None:
    if queue.HasField(parameter.name):  # type: ignore[arg-type]
        raise ValueError(f"{parameter.name} is given twice")
    assign(queue, parameter, read())  # type: ignore[arg-type]


def parameter_names(names: Iterable[str], option: str) -> list[str]:
    """Returns the current names for parameter names as people type them.

    Raises:
        CliError: One is none.
    """
    found: list[str] = []
    for name in names:
        today = name.removeprefix("--").replace("-", "_")
        if today in parameters():
            found.append(today)
        elif name in old_names():
            found += [parameter.name for parameter, _ in old_names()[name]]
        else:
            raise usage_error(
                "INVALID_OPTION",
                f"{option} {name}: a queue has no such parameter"
                f"{suggestion(today, [*parameters(), *old_names()])}",
                remedies=["list all parameters: pandawn queues show QUEUE --origin"],
            )
    return found


def complete_parameters() -> list[str]:
    """Returns the names of all parameters; for shell completion."""
    return list(parameters())


def complete_assignments() -> list[str]:
    """Returns the beginnings of all assignments; for shell completion."""
    return [f"{name}=" for name in parameters()]


def too_many_removals(removals: int, limit: int, what: str) -> CliError:
    """Returns the error for a change that deletes or takes offline more queues than allowed."""
    return CliError(
        ExitStatus.REFUSED,
        "TOO_MANY_QUEUES",
        f"{what} would delete or take offline {removals:,} queues; "
        f"without --allow-offline {limit:,} are allowed",
        details=["nothing was changed"],
        remedies=[f"if that is intended, repeat with --allow-offline {removals}"],
    )


def call_for_parameters(
    client: Client,
    method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    places: Mapping[str, str] | None = None,
) -> ResponseT:
    """Calls the server; in errors, parameters have their names, or those in `places`.

    Raises:
        CliError: The server refused the request.
    """

    def place(field: str) -> str:
        bare = field.rpartition("parameters.")[2]
        return (places or {}).get(bare, bare)

    try:
        return client.call(method, request)
    except CliError as error:
        raise with_places(error, place) from error
