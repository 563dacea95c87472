"""The options and variables that say where the server is, and what a program of a node shows to it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pandawn_client.address import parse_server
from pandawn_client.credentials import Credentials, Given, find_credentials
from pandawn_client.environment import take_variable
from pandawn_client.secret_files import MAX_SECRET_BYTES
from pandawn_client.tokens import (
    FILE_VARIABLE,
    TOKEN_VARIABLE,
    Token,
    check_token,
    token_in_environment,
    token_in_file,
)

STANDARD_INPUT = "-"


def server_argument(text: str) -> str:
    """The address of a server, for argparse. Raises argparse.ArgumentTypeError."""
    try:
        return parse_server(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_credential_options(
    parser: argparse._ActionsContainer,
) -> None:
    """Adds the options that say what to show."""
    parser.add_argument(
        "--tls",
        action=argparse.BooleanOptionalAction,
        help="speak TLS (default: PANDAWN_TLS, else with all servers that are not on this machine)",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="PATH",
        help="the authorities that the server's certificate is checked against, a file or a"
        " directory (default: PANDAWN_CA, X509_CERT_DIR, the system's)",
    )
    parser.add_argument(
        "--cert",
        type=Path,
        metavar="FILE",
        help="certificate with its chain, or a proxy (default: PANDAWN_CERT, without a token"
        " X509_USER_PROXY)",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="its key (default: PANDAWN_KEY, or in --cert)"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="bearer token that begins the session, - for the standard input"
        " (default: BEARER_TOKEN or BEARER_TOKEN_FILE)",
    )


def read_credentials(given: argparse.Namespace, server: str) -> Credentials:
    """Reads what options and environment name, for a server. Raises CredentialError.

    Tokens are taken out of the environment: payloads could read them there. A token that lies in a shared
    place is nobody's in particular, and not shown.
    """
    environ = {
        **os.environ,
        **{name: take_variable(name) for name in (TOKEN_VARIABLE, FILE_VARIABLE)},
    }

    def find_token(_over_tls: bool) -> Token | None:
        if given.token_file == STANDARD_INPUT:
            text = sys.stdin.buffer.read(MAX_SECRET_BYTES)
            return Token(check_token(text, "the standard input"), "the standard input")
        if given.token_file:
            path = Path(given.token_file).absolute()
            return token_in_file(path, f"{path}, from --token-file", for_group=True)
        return token_in_environment(environ, for_group=True)

    return find_credentials(
        server,
        Given(ca=_text(given.ca), cert=_text(given.cert), key=_text(given.key), tls=given.tls),
        environ,
        find_token=find_token,
        for_group=True,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
