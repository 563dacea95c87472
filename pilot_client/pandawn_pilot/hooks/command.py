"""Common options and errors of the sub-commands of `pandawn-pcache-hook`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from enum import IntEnum

from pandawn_client.address import parse_server
from pandawn_pilot.node.node_name import NoNodeNameError, node_name

# Short, as caches call the hook and wait for it.
DEFAULT_PATIENCE_SECONDS = 30.0

STATUSES = """\
exit statuses:
  0  done
  2  wrong usage
  3  refused by the server
  4  the server, or the catalog behind it, could not be reached in time
  5  the cache itself could not be read
  130  interrupted by Ctrl-C
"""

# Runs a sub-command and returns the message to print. Raises UsageError, CacheError and CallError.
Run = Callable[[argparse.Namespace], str]
Commands = argparse._SubParsersAction  # noqa: SLF001 (argparse has no public name for it)


class ExitStatus(IntEnum):
    """Exit statuses of the command."""

    DONE = 0
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    NO_CACHE = 5
    INTERRUPTED = 130


class UsageError(Exception):
    """The arguments are wrong; `reason` is UPPER_SNAKE."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CacheError(Exception):
    """The cache cannot be read; `reason` is UPPER_SNAKE."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, run: Run, what: str, epilog: str
) -> argparse.ArgumentParser:
    """Adds a sub-command with the common options: server, site, node, timeout."""
    parser = commands.add_parser(
        name, help=what, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--server",
        metavar="ADDRESS",
        help="the server, HOST:PORT or unix:PATH (default: PANDAWN_SERVER)",
    )
    parser.add_argument("--site", required=True, type=utf8, help="site of the node")
    parser.add_argument("--node", type=utf8, help="name of the node (default: the full host name)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_PATIENCE_SECONDS,
        metavar="SECONDS",
        help=f"how long to retry (default: {DEFAULT_PATIENCE_SECONDS:g})",
    )
    return parser


def server_of(given: argparse.Namespace) -> str:
    """The server's address. Raises UsageError if none is given."""
    server = str(given.server or os.environ.get("PANDAWN_SERVER", ""))
    if not server:
        raise UsageError(
            "NO_SERVER", "name the server with --server HOST:PORT, or in PANDAWN_SERVER"
        )
    try:
        return parse_server(server)
    except ValueError as error:
        raise UsageError("INVALID_ADDRESS", str(error)) from error


def node_of(given: argparse.Namespace) -> str:
    """The node, by the name under which its pilots register. Raises UsageError."""
    try:
        return node_name(given.node, getattr(given, "cache_dir", None))
    except NoNodeNameError as error:
        raise UsageError("NO_NODE_NAME", str(error)) from None


def utf8(text: str) -> str:
    """An argument as text. Raises ArgumentTypeError for bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8") from error
    return text


def seconds(text: str) -> float:
    """An argument as seconds. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
