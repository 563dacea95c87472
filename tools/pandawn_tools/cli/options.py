"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.units import parse_duration, parse_size

if TYPE_CHECKING:
    # Imported where they are used: for the help of a command, gRPC is not loaded.
    from google.protobuf.duration_pb2 import Duration

    from pandawn_client.credentials import Given
    from pandawn_tools.cli.client import Client
    from pandawn_tools.cli.settings import Address

Value = TypeVar("Value")
Numbers = TypeVar("Numbers", bound=int | list[int] | None)

# Rows of a table unless more are asked for: about what one reads.
DEFAULT_LIMIT = 100
# A job with less memory, disk or input than this does not exist; a number without a unit below it lacks one.
_LEAST_BARE_SIZE = 1024 * 1024
# What numbers of the contract can carry; what makes sense, the server knows.
MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1


def within(least: int, most: int) -> Callable[[Numbers], Numbers]:
    """Returns the check of an option that takes one number or several.

    Typer's own `min` and `max` fill the help with numbers of ten digits.
    """

    def check(value: Numbers) -> Numbers:
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not least <= number <= most:
                raise typer.BadParameter(f"{number} is not in the range {least} to {most}")
        return value

    return check


positive_int32 = within(1, MAX_INT32)
positive_int64 = within(1, MAX_INT64)


ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        "-s",
        metavar="HOST:PORT",
        help="Server to talk to, or unix:PATH. Else: $PANDAWN_SERVER, the configuration file, 127.0.0.1:25443.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON with the field names of the contract.")
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        callback=positive_int32,
        metavar="N",
        help=f"Show at most N rows. Default: {DEFAULT_LIMIT} on a terminal, all in a pipe.",
        show_default=False,
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Show all rows, however many.")]
SiteOption = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="SITE",
        help="Site of the node. May be left out where only one has such a node.",
        show_default=False,
    ),
]
JobId = Annotated[int, typer.Argument(metavar="JOB", callback=positive_int64, help="Job number.")]
TaskFilter = Annotated[
    int | None,
    typer.Option(
        "--task", "-t", callback=positive_int64, metavar="TASK", help="Only of this task."
    ),
]
UserFilter = Annotated[
    str | None, typer.Option("--user", "-u", metavar="USER", help="Only of this user.")
]
QueueFilter = Annotated[
    str | None, typer.Option("--queue", "-q", metavar="QUEUE", help="Only of this queue.")
]
LabelFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="NAME=VALUE", help="Only of tasks with this label. May be repeated."
    ),
]
NodeFilter = Annotated[
    str | None, typer.Option("--node", metavar="NODE", help="Only on this node.")
]


CaOption = Annotated[
    str | None,
    typer.Option(
        "--ca",
        metavar="PATH",
        help="Authorities of the server's certificate, a file or a directory. Else: $PANDAWN_CA, the "
        "configuration file, $X509_CERT_DIR, the system's.",
        show_default=False,
    ),
]
CertOption = Annotated[
    str | None,
    typer.Option(
        "--cert",
        metavar="FILE",
        help="Certificate to show, with its chain, or a proxy. Else: $PANDAWN_CERT, the configuration "
        "file; without a token $X509_USER_PROXY.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="Its key. Else: $PANDAWN_KEY, the configuration file, that in --cert.",
        show_default=False,
    ),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Bearer token to show. Else: the configuration file, $BEARER_TOKEN, $BEARER_TOKEN_FILE, that of "
        "pandawn login, bt_u<uid> in $XDG_RUNTIME_DIR or /tmp.",
        show_default=False,
    ),
]
TlsOption = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        help="Speak TLS. Else: $PANDAWN_TLS, the configuration file, and with all servers that are not "
        "on this machine.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What stood before the command: which server, and what to show it."""

    server: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    tls: bool | None = None

    @property
    def given(self) -> Given:
        """What was said about credentials."""
        from pandawn_client.credentials import Given

        return Given(self.ca, self.cert, self.key, self.token_file, self.tls)


def chosen(ctx: typer.Context) -> Chosen:
    """Returns what stood before the command."""
    before = ctx.find_root().obj
    return before if isinstance(before, Chosen) else Chosen()


def address_of(ctx: typer.Context, server: str | None) -> Address:
    """Returns the server of a command: its own `--server` wins over the one before it."""
    from pandawn_tools.cli.settings import find_address

    return find_address(server if server is not None else chosen(ctx).server)


def connect(ctx: typer.Context, server: str | None, *, patient: bool = False) -> Client:
    """Opens the connection of a command: its own `--server` wins over the one before it.

    A `patient` command waits long for a server that is away, as one that follows something should.
    """
    from pandawn_tools.cli.client import COMMAND, FOLLOWER, Client
    from pandawn_tools.cli.credentials import find_credentials

    address = address_of(ctx, server)
    return Client(
        address,
        credentials=find_credentials(address, chosen(ctx).given),
        patience=FOLLOWER if patient else COMMAND,
    )


def limit_or_none(limit: int | None, everything: bool) -> int | None:
    """Returns how many rows to read; None for all.

    A program that reads the output cannot see that rows are missing, so it gets all unless it says how many.
    """
    if everything:
        return None
    return DEFAULT_LIMIT if limit is None and sys.stdout.isatty() else limit


def size_option(option: str, text: str | None) -> int | None:
    """Reads the value of an option that is a size in bytes.

    Raises:
        CliError: It is no size, or a bare number so small that a unit was forgotten.
    """
    size = _read(option, text, parse_size)
    if size and text is not None and text.strip().isdecimal() and size < _LEAST_BARE_SIZE:
        raise usage_error(
            "INVALID_OPTION",
            f"{option} {text}: that would be {size:,} bytes",
            remedies=[f"write a unit: {option} {text}GiB, or {text}B if bytes are meant"],
        )
    return size


def duration_option(option: str, text: str | None) -> timedelta | None:
    """Reads the value of an option that is a span of time.

    Raises:
        CliError: It is none.
    """
    return _read(option, text, parse_duration)


def to_duration(span: timedelta) -> Duration:
    """Returns the span as the contract's duration."""
    from google.protobuf.duration_pb2 import Duration

    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def _read(option: str, text: str | None, parse: Callable[[str], Value]) -> Value | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise usage_error("INVALID_OPTION", f"{option}: {error}") from error
