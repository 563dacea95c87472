"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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

# Rows of a table by default: about as many as a person reads.
DEFAULT_LIMIT = 100
# No job needs less memory, disk or input than this, so a smaller number without a unit lacks its unit.
_LEAST_BARE_SIZE = 1024 * 1024
# Ranges of the integers of the contract. The server checks what makes sense.
MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1


def within(least: int, most: int) -> Callable[[Numbers], Numbers]:
    """Returns a callback that checks that a number, or each of several, is in a range.

    Typer's own `min` and `max` would print numbers of ten digits in the help.
    """

    def check(value: Numbers) -> Numbers:
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not least <= number <= most:
                raise typer.BadParameter(f"{number} is not between {least} and {most}")
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
        help="Server, or unix:PATH of its socket. Default: $PANDAWN_SERVER, else the configuration file, "
        "else 127.0.0.1:25443.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, with the field names of the API.")
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        callback=positive_int32,
        metavar="N",
        help=f"Show at most N rows. Default: {DEFAULT_LIMIT} on a terminal, all rows in a pipe.",
        show_default=False,
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Show all rows.")]
SiteOption = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="SITE",
        help="Site of the node. Needed only if several sites have a node of this name.",
        show_default=False,
    ),
]
JobId = Annotated[
    int, typer.Argument(metavar="JOB", callback=positive_int64, help="Number of a job.")
]
TaskFilter = Annotated[
    int | None,
    typer.Option(
        "--task",
        "-t",
        callback=positive_int64,
        metavar="TASK",
        help="Only of this task, by number.",
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
        "--label",
        metavar="NAME=VALUE",
        help="Only of tasks with this label. May be repeated: with all of them.",
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
        help="CA certificates that may sign the server's: a file or a directory. Default: $PANDAWN_CA, else the "
        "configuration file, else $X509_CERT_DIR, else those of the system.",
        show_default=False,
    ),
]
CertOption = Annotated[
    str | None,
    typer.Option(
        "--cert",
        metavar="FILE",
        help="Your certificate with its chain, or a proxy. Default: $PANDAWN_CERT, else the configuration "
        "file, else, if there is no token, $X509_USER_PROXY.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="Private key of the certificate. Default: $PANDAWN_KEY, else the configuration file, else the key in "
        "the file of --cert.",
        show_default=False,
    ),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with a bearer token. Default: the configuration file, else $BEARER_TOKEN, else "
        "$BEARER_TOKEN_FILE, else the token of pandawn login, else bt_u<uid> in $XDG_RUNTIME_DIR or /tmp.",
        show_default=False,
    ),
]
TlsOption = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        help="Use TLS or not. Default: $PANDAWN_TLS, else the configuration file, else TLS for all servers on "
        "other machines.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options before the command: which server, and which credentials."""

    server: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    tls: bool | None = None

    @property
    def given(self) -> Given:
        """The options about credentials."""
        from pandawn_client.credentials import Given

        return Given(self.ca, self.cert, self.key, self.token_file, self.tls)


def chosen(ctx: typer.Context) -> Chosen:
    """Returns the options before the command."""
    before = ctx.find_root().obj
    return before if isinstance(before, Chosen) else Chosen()


def address_of(ctx: typer.Context, server: str | None) -> Address:
    """Returns the server of a command. Its own `--server` has precedence over the one before the command."""
    from pandawn_tools.cli.settings import find_address

    return find_address(server if server is not None else chosen(ctx).server)


def connect(ctx: typer.Context, server: str | None, *, patient: bool = False) -> Client:
    """Opens the connection of a command. Its own `--server` has precedence over the one before the command.

    A `patient` command, such as one that follows events, waits long for a server that does not answer.
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

    A program that reads the output does not notice missing rows, so it gets all rows unless it sets a limit.
    """
    if everything:
        return None
    return DEFAULT_LIMIT if limit is None and sys.stdout.isatty() else limit


def size_option(option: str, text: str | None) -> int | None:
    """Reads the value of an option that is a size, and returns bytes.

    Raises:
        CliError: It is not a size, or it is so small a number without a unit that the unit was forgotten.
    """
    size = _read(option, text, parse_size)
    if size and text is not None and text.strip().isdecimal() and size < _LEAST_BARE_SIZE:
        raise usage_error(
            "INVALID_OPTION",
            f"{option} {text} would be {size:,} bytes",
            remedies=[f"add a unit: {option} {text}GiB, or {text}B if you mean bytes"],
        )
    return size


def duration_option(option: str, text: str | None) -> timedelta | None:
    """Reads the value of an option that is a duration, such as `90min`.

    Raises:
        CliError: It is not a duration.
    """
    return _read(option, text, parse_duration)


def read_pairs(option: str, pairs: Sequence[str]) -> dict[str, str]:
    """Reads the `NAME=VALUE` pairs of an option. Raises CliError for anything else."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise usage_error("INVALID_OPTION", f"{option} {pair!r}: write it as NAME=VALUE")
        found[name] = value
    return found


def to_duration(span: timedelta) -> Duration:
    """Returns the time span as a protobuf duration."""
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
