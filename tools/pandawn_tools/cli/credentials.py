"""What a server is shown by a command: options, environment, configuration file, what `pandawn login` kept."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from pandawn_client import credentials as library
from pandawn_client.credentials import Credentials, Given
from pandawn_client.errors import CredentialError
from pandawn_client.tokens import Token
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.settings import Address, read_config
from pandawn_tools.cli.tokens import find_token


@contextmanager
def credential_errors() -> Iterator[None]:
    """Says what is wrong with a credential as the command line says things: as CliError."""
    try:
        yield
    except CredentialError as error:
        raise usage_error(
            error.reason, error.message, details=error.details, remedies=error.remedies
        ) from error


def find_credentials(
    address: Address,
    given: Given,
    environ: Mapping[str, str] | None = None,
    *,
    token: Token | None = None,
) -> Credentials:
    """Returns what to show to a server; a `token` that is given here is not looked for elsewhere.

    Raises:
        CliError: Something that was named cannot be used, or a token would travel in the clear.
    """
    environ = os.environ if environ is None else environ
    configured = read_config(environ)

    def find(over_tls: bool) -> Token | None:
        if token is not None:
            return token
        return find_token(
            address, given.token_file, configured.token_file, environ, over_tls=over_tls
        )

    with credential_errors():
        return library.find_credentials(
            address.target,
            given,
            environ,
            configured=Given(
                **{each.name: getattr(configured, each.name) for each in fields(Given)}
            ),
            configured_in=str(configured.path),
            find_token=find,
        )
