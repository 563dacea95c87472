"""Options and variables for the server's address and the credentials of a node's programs."""

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
    """Adds the options for TLS, certificates and tokens."""
    parser.add_argument(
        "--tls",
        action=argparse.BooleanOptionalAction,
        help="use TLS (default: PANDAWN_TLS, else for all servers that are not on this machine)",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="PATH",
        help="certificate authorities that may sign the server's certificate, a file or a"
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
        help="file of the bearer token that starts the session, - for the standard input"
        " (default: BEARER_TOKEN or BEARER_TOKEN_FILE)",
    )


def read_credentials(given: argparse.Namespace, server: str) -> Credentials:
    """Reads the credentials for a server from options and environment. Raises CredentialError.

    Removes tokens from the environment, where payloads could read them. Ignores a token in a shared
    place such as /tmp, as it may belong to another user.
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
