"""The credentials for a server: TLS, certificates and a token.

Files are read once and kept in memory. A token is never sent unencrypted over a network: that is refused
before connecting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc

from pandawn_client.address import is_local, is_socket
from pandawn_client.certificates import find_authorities, read_pair
from pandawn_client.errors import CredentialError
from pandawn_client.tokens import Token, token_in_environment, token_in_file, token_in_shared_place


@dataclass(frozen=True)
class Given:
    """Credentials that a user names in options or in a configuration file; None if not given."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    tls: bool | None = None


@dataclass(frozen=True)
class Credentials:
    """The client's credentials, and the authorities that verify the server.

    `root`, `chain` and `key` are PEM; `root` None: the authorities that come with gRPC. `certificate` says
    where the certificate comes from, for messages. `key_file` is the file of the key. `skipped` lists
    authorities that could not be used, with reasons.
    """

    tls: bool = False
    root: bytes | None = None
    chain: bytes | None = None
    key: bytes | None = None
    token: Token | None = None
    certificate: str = ""
    key_file: Path | None = None
    skipped: tuple[str, ...] = ()

    @property
    def shows_anything(self) -> bool:
        """Whether there is a token or a certificate."""
        return self.token is not None or self.chain is not None

    @property
    def token_text(self) -> str:
        """The token, or an empty string."""
        return "" if self.token is None else self.token.text

    def channel(self) -> grpc.ChannelCredentials | None:
        """The credentials of a gRPC channel; None without TLS."""
        if not self.tls:
            return None
        return grpc.ssl_channel_credentials(self.root, self.key, self.chain)


NOTHING = Credentials()
"""No TLS and no credential: for a server on this machine that requires none."""


def find_credentials(
    server: str,
    given: Given | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    configured: Given | None = None,
    configured_in: str = "",
    find_token: Callable[[bool], Token | None] | None = None,
    for_group: bool = False,
) -> Credentials:
    """Returns the credentials for a server (HOST:PORT or unix:PATH).

    `given` overrides the environment (PANDAWN_CA, PANDAWN_CERT, PANDAWN_KEY, PANDAWN_TLS, and the variables
    of the grid), which overrides `configured` from the file `configured_in`. TLS is used for all servers on
    other machines; for those on this machine if authorities or a certificate are given, or `tls` is set.
    `find_token` gets whether TLS is used, and returns the token; without it, the WLCG's token discovery is
    used. With `for_group` the group of secret files may read them.

    Raises CredentialError if something given cannot be used, or if a token would be sent unencrypted.
    """
    given, configured = given or Given(), configured or Given()
    environ = os.environ if environ is None else environ
    if find_token is None:
        find_token = partial(discover_token, given.token_file, environ)
    search = _Search(given, environ, configured, configured_in)
    ca, cert = search.chosen("ca"), search.chosen("cert")
    tls = _wants_tls(server, search, names_any=bool(ca or cert))
    token = find_token(tls)
    if not tls:
        return Credentials(token=_fit_for_clear(server, token))
    key = search.chosen("key")
    if cert is None and token is None:
        # Variables that every grid node has, not set for this server in particular.
        cert, key = _ambient(environ, key)
    root, skipped = find_authorities(ca, environ)
    if cert is None:
        return Credentials(tls=True, root=root, token=token, skipped=skipped)
    key_file = Path((key or cert)[0])
    chain_pem, key_pem = read_pair(Path(cert[0]), key_file, for_group=for_group)
    return Credentials(
        tls=True,
        root=root,
        chain=chain_pem,
        key=key_pem,
        token=token,
        certificate=f"{cert[0]}, from {cert[1]}",
        key_file=key_file,
        skipped=skipped,
    )


def discover_token(file: str | None, environ: Mapping[str, str], over_tls: bool) -> Token | None:
    """The token in `file`, or that of the WLCG's discovery; None if there is none.

    A token in a shared place is used only for servers that TLS verifies. Raises CredentialError.
    """
    if file:
        return token_in_file(Path(file).expanduser(), f"{file}, from --token-file")
    found = token_in_environment(environ)
    if found is None and over_tls:
        found = token_in_shared_place(environ)
    return found


_Found = tuple[str, str]
"""A path, and the option, variable or file that names it."""


@dataclass(frozen=True)
class _Search:
    """Looks up a setting in the options, the environment and the configuration file, in this order."""

    given: Given
    environ: Mapping[str, str]
    configured: Given
    configured_in: str

    def chosen(self, name: str) -> _Found | None:
        variable = f"PANDAWN_{name.upper()}"
        option: str | None = getattr(self.given, name)
        in_file: str | None = getattr(self.configured, name)
        for value, source in (
            (option, f"--{name}"),
            (self.environ.get(variable), f"the variable {variable}"),
            (in_file, self.configured_in),
        ):
            if value:
                return str(Path(value).expanduser().absolute()), source
        return None


def _ambient(environ: Mapping[str, str], key: _Found | None) -> tuple[_Found | None, _Found | None]:
    if environ.get("X509_USER_PROXY"):
        return (environ["X509_USER_PROXY"], "the variable X509_USER_PROXY"), key
    if environ.get("X509_USER_CERT") and environ.get("X509_USER_KEY"):
        return (
            (environ["X509_USER_CERT"], "the variable X509_USER_CERT"),
            (environ["X509_USER_KEY"], "the variable X509_USER_KEY"),
        )
    return None, key


def _wants_tls(server: str, search: _Search, *, names_any: bool) -> bool:
    # A malformed variable is always reported, even if it has no effect here.
    variable = search.environ.get("PANDAWN_TLS") or None
    if variable not in {None, "0", "1"}:
        raise CredentialError("INVALID_SETTING", f"PANDAWN_TLS must be 0 or 1, not {variable!r}")
    if is_socket(server):
        if search.given.tls or search.given.ca or search.given.cert:
            raise CredentialError("NO_TLS", f"{server} is a socket file, which has no TLS")
        return False
    for choice in (
        search.given.tls,
        None if variable is None else variable == "1",
        search.configured.tls,
    ):
        if choice is not None:
            return choice
    return names_any or not is_local(server)


def _fit_for_clear(server: str, token: Token | None) -> Token | None:
    """Returns the token. Raises CredentialError if it would leave this machine without TLS."""
    if token is not None and not is_local(server):
        raise CredentialError(
            "TOKEN_IN_THE_CLEAR",
            f"a token would be sent unencrypted to {server}",
            details=[f"the token is from {token.source}"],
            remedies=["leave out --no-tls (PANDAWN_TLS=0, tls = false)", "or the token"],
        )
    return token
