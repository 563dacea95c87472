"""`pandawn login`, `pandawn logout` and `pandawn whoami`."""

import getpass
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.broker.v1 import caller_pb2
from pandawn_client.credentials import Credentials
from pandawn_client.secret_files import MAX_SECRET_BYTES
from pandawn_client.tokens import (
    FILE_VARIABLE,
    TOKEN_VARIABLE,
    Token,
    check_token,
    read_token,
    token_in_environment,
    token_in_shared_place,
)
from pandawn_tools.cli import options, words
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.credentials import credential_errors, find_credentials
from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.render import note
from pandawn_tools.cli.settings import Address
from pandawn_tools.cli.tables import Cell, print_fields
from pandawn_tools.cli.tokens import keep_token, kept_path, peek
from pandawn_tools.cli.units import format_span

_STANDARD_INPUT = "-"


def login(
    ctx: typer.Context,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the token; - is standard input.",
            show_default=False,
        ),
    ] = None,
    server: options.ServerOption = None,
) -> None:
    """Store a bearer token for a server, in a file that only you can read.

    The token is read from --token-file, from standard input if something is piped in, from
    $BEARER_TOKEN or $BEARER_TOKEN_FILE, or typed at a prompt that does not show it. It is stored
    only if the server accepts it.
    """
    address = options.address_of(ctx, server)
    with credential_errors():
        token = _obtain(address, token_file or options.chosen(ctx).given.token_file)
    claims = peek(token)
    print_fields([] if claims is None else _claim_fields(token))
    if claims is not None and claims.expire_time is not None:
        now = datetime.now(UTC)
        if claims.expire_time <= now:
            raise usage_error(
                "TOKEN_EXPIRED",
                f"the token has expired {format_span(now - claims.expire_time)} ago; it is not stored",
                remedies=["get a new one from your issuer"],
            )
    said = _try(ctx, address, token)
    with credential_errors():
        path = keep_token(address, token, os.environ)
    print_fields([("server", address.target), ("user", said or ""), ("file", str(path))])
    for variable in (TOKEN_VARIABLE, FILE_VARIABLE):
        if os.environ.get(variable):
            note(f"{variable} is set, and is used in place of the stored token")


def logout(
    ctx: typer.Context,
    server: options.ServerOption = None,
    everywhere: Annotated[
        bool, typer.Option("--all", help="Remove the tokens of all servers.")
    ] = False,
) -> None:
    """Remove the token that `pandawn login` stored."""
    path = kept_path(options.address_of(ctx, server), os.environ)
    paths = sorted(path.parent.iterdir()) if everywhere and path.parent.is_dir() else [path]
    removed = 0
    for each in paths:
        try:
            each.unlink()
            removed += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            raise usage_error(
                "CREDENTIAL_NOT_REMOVED",
                f"{each} cannot be removed",
                details=[error.strerror or ""],
            ) from error
        note(f"removed {each}")
    if not removed:
        note("there was no token to remove")
    if os.environ.get(TOKEN_VARIABLE):
        note(f"{TOKEN_VARIABLE} is set, and is still sent to servers: unset {TOKEN_VARIABLE}")


def whoami(
    ctx: typer.Context,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Show your name and your roles at the server, and the rule that gave them."""
    with options.connect(ctx, server) as client:
        caller = client.call(client.broker.WhoAmI, broker.WhoAmIRequest()).caller
        shown = client.credentials
    if json_output:
        print_json(message_json(caller))
        return
    print_fields(_caller_fields(caller, shown))


def _obtain(address: Address, token_file: str | None) -> str:
    """Returns the token to store, from the first place that has one."""
    if token_file is not None and token_file != _STANDARD_INPUT:
        return read_token(Path(token_file).expanduser())
    if token_file == _STANDARD_INPUT or not sys.stdin.isatty():
        piped = sys.stdin.buffer.read(MAX_SECRET_BYTES)
        if piped.strip() or token_file == _STANDARD_INPUT:
            return check_token(piped, "the standard input")
    found = token_in_environment(os.environ) or token_in_shared_place(os.environ)
    if found is not None:
        note(f"using the token in {found.source}")
        return found.text
    if not sys.stdin.isatty():
        raise usage_error(
            "NO_TOKEN",
            "there is no token to store",
            remedies=["pipe one in, or give its file: pandawn login --token-file FILE"],
        )
    return check_token(getpass.getpass(f"Token for {address.target}: ").encode(), "what was typed")


def _try(ctx: typer.Context, address: Address, token: str) -> str | None:
    """Returns the user that the server finds in the token; None if it cannot be reached now."""
    # With the other credentials that will be sent with it.
    shown = find_credentials(address, options.chosen(ctx).given, token=Token(token, "this login"))
    with Client(address, credentials=shown) as client:
        try:
            caller = client.call(client.broker.WhoAmI, broker.WhoAmIRequest()).caller
        except CliError as error:
            if error.status is not ExitStatus.UNREACHABLE:
                raise
            note(f"the server cannot check the token now ({error.message}); it is stored unchecked")
            return None
    return caller.user or words.caller_method(caller.method)


def _claim_fields(token: str) -> Iterator[tuple[str, Cell]]:
    claims = peek(token)
    if claims is None:
        return
    yield "issuer", claims.issuer
    yield "subject", claims.subject
    yield "audience", " ".join(claims.audience)
    yield "scopes", " ".join(claims.scopes)
    yield "groups", " ".join(claims.groups)
    if claims.expire_time is not None:
        yield "expires", _expiry(claims.expire_time)


def _caller_fields(caller: caller_pb2.Caller, shown: Credentials) -> Iterator[tuple[str, Cell]]:
    yield "user", caller.user or "(none)"
    yield "by", words.caller_method(caller.method)
    yield "subject", caller.subject
    yield "rule", caller.rule
    yield "roles", " ".join(map(words.caller_role, caller.roles))
    yield "sites", " ".join(caller.sites)
    yield "groups", " ".join(caller.groups)
    yield "scopes", " ".join(caller.scopes)
    if caller.limited:
        yield "limited", "yes: it cannot submit"
    if caller.HasField("expire_time"):
        yield "expires", _expiry(caller.expire_time.ToDatetime(UTC))
    if shown.token is not None and caller.method == caller_pb2.CALLER_METHOD_TOKEN:
        yield "token in", shown.token.source
    if caller.method == caller_pb2.CALLER_METHOD_X509:
        yield "certificate", shown.certificate


def _expiry(end: datetime) -> str:
    left = end - datetime.now(UTC)
    when = f"{end.astimezone():%Y-%m-%d %H:%M:%S}"
    return f"{when} (in {format_span(left)})" if left.total_seconds() > 0 else f"{when} (expired)"
