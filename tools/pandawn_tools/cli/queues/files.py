"""`pandawn queues export|plan`, and `apply` with a directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pandawn.queueconfig.v1 import document_pb2
from pandawn.queueconfig.v1.document_pb2 import DocumentViolation
from pandawn_tools.cli import options
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.jsonout import Json, message_json, print_json
from pandawn_tools.cli.queues.changes import counts, print_diffs
from pandawn_tools.cli.queues.common import (
    Configuration,
    change_configuration,
    change_note,
    fetch_configuration,
    too_many_removals,
)
from pandawn_tools.cli.render import note, print_lines
from pandawn_tools.cli.units import format_count
from pandawn_tools.queuefiles.document import FileDocument, Key
from pandawn_tools.queuefiles.export import export
from pandawn_tools.queuefiles.problems import Problem
from pandawn_tools.queuefiles.tree import Tree, TreeError, has_folders, lines_of, read_tree

DeleteOption = Annotated[
    bool,
    typer.Option("--delete", help="Delete documents of the server that have no file."),
]
OfSiteOption = Annotated[
    str | None,
    typer.Option(
        "--of-site", metavar="SITE", help="Only this site: ignore documents of other sites."
    ),
]
Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory with queues/, sites/ and clouds/.")
]
# Maximum number of names in a sentence.
_FEW = 5
# Old names are harmless: with thousands of them, a few notes suffice.
_MOST_NOTES = 20


def export_files(
    ctx: typer.Context,
    directory: Directory,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove files without a document on the server.")
    ] = False,
    of_site: OfSiteOption = None,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Write the configuration to YAML files, one for each queue, site and cloud.

    Existing files keep their comments, order and layout; only values that differ change.
    """
    with options.connect(ctx, server) as client:
        configuration = fetch_configuration(client).of_site(of_site)
    try:
        done = export(directory, configuration.documents, prune=prune)
    except TreeError as error:
        raise usage_error("NO_QUEUE_FILES", str(error)) from error
    except OSError as error:
        raise usage_error(
            "CANNOT_WRITE", f"{error.filename or directory}: {error.strerror or error}"
        ) from error
    groups = {
        "created": done.created,
        "changed": done.changed,
        "removed": done.removed,
        "gone": done.gone,
    }
    if json_output:
        said: dict[str, Json] = {
            name: [str(path.relative_to(directory)) for path in paths]
            for name, paths in groups.items()
        }
        print_json(
            {
                "revision": configuration.revision,
                **said,
                "same": done.same,
                "problems": _problems_json(done.problems),
            }
        )
    else:
        for word, paths in groups.items():
            if word == "gone":
                continue
            print_lines(f"{word} {path}" for path in paths)
        note(
            f"revision {configuration.revision}: "
            f"{format_count(len(done.created), 'file')} created, {len(done.changed)} changed, "
            f"{done.same} unchanged"
        )
        if done.gone:
            names = ", ".join(str(path.relative_to(directory)) for path in done.gone[:_FEW])
            more = f" and {len(done.gone) - _FEW} more" if len(done.gone) > _FEW else ""
            note(f"not on the server: {names}{more}; --prune removes these files")
    if done.problems:
        raise _problems_error(done.problems, directory, "these files were not changed")


def plan(
    ctx: typer.Context,
    directory: Directory,
    delete: DeleteOption = False,
    of_site: OfSiteOption = None,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Only check the files, without a server.")
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show what `apply` would change, and all errors in the files.

    Exit status: 0 no changes; 5 changes; 2 errors.
    """
    tree = _read(directory)
    say = _print_json if json_output else _say
    if check_only:
        say(tree, None)
        _refuse_problems(tree.problems, directory)
        note(f"{format_count(len(tree.documents), 'file')}: no errors")
        return
    try:
        with options.connect(ctx, server) as client:
            planned = _plan(client, directory, tree, delete=delete, of_site=of_site)
    except CliError:
        if tree.problems:
            say(tree, None)
            note("the files could not be compared with the server, which did not answer")
            _refuse_problems(tree.problems, directory)
        raise
    if not json_output:
        print_diffs(planned.reply.diffs)
    say(tree, planned)
    _refuse_problems([*tree.problems, *planned.problems], directory)
    if planned.reply.removals > planned.reply.removals_limit:
        note(
            f"{planned.reply.removals} queues would be deleted or taken offline: "
            f"apply them with --allow-offline {planned.reply.removals}"
        )
    for name in planned.reply.queues_in_use:
        note(f"queue {name} has jobs or pilots: it cannot be deleted yet")
    if planned.reply.diffs:
        raise typer.Exit(ExitStatus.CHANGES)


def apply_directory(
    client: Client,
    directory: Path,
    *,
    message: str,
    delete: bool,
    of_site: str | None,
    allowed: int | None,
    json_output: bool,
) -> None:
    """Applies the files to the server's documents, all or none.

    Raises:
        CliError: The files have errors, or the server refused the change.
    """
    tree = _read(directory)
    if tree.problems:
        _say(tree, None)
        _refuse_problems(tree.problems, directory)
    planned = _plan(client, directory, tree, delete=delete, of_site=of_site)
    if not json_output:
        print_diffs(planned.reply.diffs)
    _say(tree, planned)
    _refuse_problems(planned.problems, directory)
    removals, limit = planned.reply.removals, planned.reply.removals_limit
    if removals > limit and (allowed is None or removals > allowed):
        raise too_many_removals(removals, limit, str(directory))
    if not planned.reply.diffs:
        if json_output:
            print_json(message_json(planned.reply))
        return
    request = document_pb2.ApplyConfigRequest(
        changes=planned.changes,
        expected_revision=planned.before.revision,
        allowed_removals=allowed,
        note=change_note(message),
    )
    reply = change_configuration(client, client.queues.ApplyConfig, request)
    if json_output:
        print_json(message_json(reply))
    note(f"revision {reply.revision}: {counts(reply.diffs, done=True)}")


@dataclass(frozen=True, slots=True)
class _Planned:
    """The changes for a directory, and the server's preview of them."""

    before: Configuration
    changes: Sequence[document_pb2.DocumentChange]
    reply: document_pb2.ApplyConfigResponse
    problems: Sequence[Problem]
    kept: Sequence[Key]


def _read(directory: Path) -> Tree:
    try:
        tree = read_tree(directory)
    except (TreeError, OSError) as error:
        raise usage_error("NO_QUEUE_FILES", str(error)) from error
    if not tree.files and not has_folders(directory) and not tree.problems:
        raise usage_error(
            "NO_QUEUE_FILES",
            f"{directory} has none of queues/, sites/ and clouds/",
            remedies=[f"create them from the server's queues: pandawn queues export {directory}"],
        )
    return tree


def _plan(
    client: Client, directory: Path, tree: Tree, *, delete: bool, of_site: str | None
) -> _Planned:
    before = fetch_configuration(client)
    broken = tree.broken
    wanted = [
        document
        for key, document in tree.documents.items()
        if str(document.path.relative_to(directory)) not in broken
        and before.documents.get(key) != document.values
    ]
    changes = [
        document_pb2.DocumentChange(kind=d.key.kind, name=d.key.name, parameters=d.values)
        for d in wanted
    ]
    # A broken file may belong to any document: then no document is certain to have no file.
    missing = (
        []
        if broken
        else [key for key in before.of_site(of_site).documents if key not in tree.documents]
    )
    if delete:
        changes += [
            document_pb2.DocumentChange(kind=key.kind, name=key.name, remove=True)
            for key in missing
        ]
    if not changes:
        reply = document_pb2.ApplyConfigResponse(revision=before.revision)
    else:
        request = document_pb2.ApplyConfigRequest(changes=changes, validate_only=True)
        reply = change_configuration(client, client.queues.ApplyConfig, request)
    problems = [_placed(violation, wanted, directory) for violation in reply.violations]
    return _Planned(before, changes, reply, problems, [] if delete else missing)


def _placed(
    violation: DocumentViolation, documents: Sequence[FileDocument], directory: Path
) -> Problem:
    """Returns the server's violation of a document as a problem at a line of its file."""
    if violation.position >= len(documents):
        return Problem("", 0, f"{violation.name}: {violation.description}")
    document = documents[violation.position]
    field = violation.field.partition(".")[0]
    key = document.keys.get(field, field)
    said = violation.description if key == "name" else f"{key}: {violation.description}"
    line = lines_of(document).get(field, 0)
    return Problem(str(document.path.relative_to(directory)), line, said)


def _print_json(tree: Tree, planned: _Planned | None) -> None:
    reply = document_pb2.ApplyConfigResponse() if planned is None else planned.reply
    problems = [*tree.problems, *(planned.problems if planned is not None else ())]
    print_json(
        {
            "revision": reply.revision,
            "diffs": [message_json(diff) for diff in reply.diffs],
            "removals": reply.removals,
            "removals_limit": reply.removals_limit,
            "queues_in_use": list(reply.queues_in_use),
            "problems": _problems_json(problems),
            "notes": _problems_json(tree.notes),
        }
    )


def _say(tree: Tree, planned: _Planned | None) -> None:
    """Prints notes and errors of the files, and a summary of the changes, to standard error."""
    for said in tree.notes[:_MOST_NOTES]:
        note(f"note: {said}")
    if len(tree.notes) > _MOST_NOTES:
        note(f"note: ... and {len(tree.notes) - _MOST_NOTES:,} more; --json lists all")
    for problem in sorted([*tree.problems, *(planned.problems if planned is not None else ())]):
        note(str(problem))
    if planned is None:
        return
    summary = counts(planned.reply.diffs, done=False) or "nothing to do"
    note(f"compared with revision {planned.before.revision}: {summary}")
    if planned.kept:
        names = ", ".join(map(str, planned.kept[:_FEW]))
        more = ", ..." if len(planned.kept) > _FEW else ""
        note(
            f"without a file, and kept: {format_count(len(planned.kept), 'document')} "
            f"({names}{more}); --delete deletes them"
        )


def _refuse_problems(problems: Sequence[Problem], directory: Path) -> None:
    if problems:
        files = len({problem.file for problem in problems})
        raise usage_error(
            "INVALID_QUEUE_FILES",
            f"{format_count(len(problems), 'error')} in "
            f"{format_count(files, 'file')} of {directory}",
            details=["nothing was changed"],
        )


def _problems_error(problems: Sequence[Problem], directory: Path, what: str) -> CliError:
    return usage_error(
        "INVALID_QUEUE_FILES",
        f"{directory}: {what}",
        details=[str(problem) for problem in sorted(problems)],
    )


def _problems_json(problems: Sequence[Problem]) -> list[Json]:
    return [
        {"file": problem.file, "line": problem.line, "message": problem.message}
        for problem in problems
    ]
