"""Makes a door for each address in the settings: its gate, authenticators and TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import assert_never

import grpc

from pandawn_server.admission_config import AdmissionFileError
from pandawn_server.config import Settings
from pandawn_server.descriptors import connections_of_a_door, raise_limit
from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal
from pandawn_server.listeners import Listener, Tls
from pandawn_server.telemetry.api import Telemetry
from pandawn_server.wire.auth.api import Authenticator
from pandawn_server.wire.auth.connections import ConnectionLimits, Connections
from pandawn_server.wire.auth.front import TlsFront
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.auth.host import HostAuthenticator
from pandawn_server.wire.auth.identity import Identity
from pandawn_server.wire.auth.peers import forwarded_peer
from pandawn_server.wire.auth.tls_files import TlsFiles, TlsFilesError, server_credentials
from pandawn_server.wire.edge.listening import StartError
from pandawn_server.wire.edge.policies import OPEN_METHODS
from pandawn_server.wire.edge.reflection import REFLECTION_METHODS
from pandawn_server.wire.edge.server import Door, Listening

NEEDS_RULES = frozenset({Method.X509, Method.TOKEN})
"""Methods that admit nobody without an admission file."""


def open_identity(settings: Settings) -> Identity:
    """Opens what certificates and tokens are checked against. Raises `StartError` for unusable files."""
    try:
        return Identity(
            admission_file=settings.admission_file,
            keys_directory=settings.data_dir / "keys",
            client_ca=settings.tls_client_ca,
            revocations=settings.tls_revocations,
        )
    except (AdmissionFileError, TlsFilesError) as error:
        raise StartError(str(error)) from None


def listening_of(
    settings: Settings,
    telemetry: Telemetry,
    sessions: Authenticator,
    has_ended: Callable[[Principal], bool],
    identity: Identity,
) -> Listening:
    """Where and how a server with these settings listens. Raises `StartError` for unusable settings."""
    connections = Connections(
        ConnectionLimits(
            settings.max_strangers_per_address,
            settings.max_connections_per_address,
            timedelta(seconds=settings.stranger_seconds),
        ),
        settings.proxy_networks,
    )
    most = connections_of_a_door(raise_limit(), settings.listeners, settings.max_connections)
    return Listening(
        _doors(settings, telemetry, sessions, has_ended, identity, connections.shown, most),
        settings.reuse_port,
        timedelta(seconds=settings.max_connection_age_seconds),
        settings.max_streams_per_connection,
        most,
        connections.start,
    )


def _doors(
    settings: Settings,
    telemetry: Telemetry,
    sessions: Authenticator,
    has_ended: Callable[[Principal], bool],
    identity: Identity,
    on_shown: Callable[[str], None],
    max_connections: int,
) -> list[Door]:
    files = _tls_files(settings)
    made = []
    for listener in settings.listeners:
        _check_rules(listener, settings)
        try:
            front = _front(listener, files, max_connections)
            credentials = None if front is not None else _credentials(listener, files)
        except TlsFilesError as error:
            raise StartError(f"{listener.address}: {error}") from None
        gate = Gate(
            [_authenticator(m, identity) for m in listener.methods if m is not Method.LOCAL],
            sessions=sessions,
            has_ended=has_ended,
            otherwise=LOCAL_OPERATOR if listener.admits_this_machine else None,
            peer_of=_peer_of(listener, settings),
            open_methods=OPEN_METHODS
            | (REFLECTION_METHODS if settings.reflection == "anybody" else frozenset()),
            front=None if front is None else front.caller,
            changes=identity.changes,
            on_shown=on_shown,
            telemetry=telemetry,
        )
        made.append(Door(listener, gate, credentials, front))
    return made


def check_doors(settings: Settings) -> None:
    """Reads all files that the addresses need. Raises `StartError` for unusable ones."""
    open_identity(settings)
    files = _tls_files(settings)
    for listener in settings.listeners:
        _check_rules(listener, settings)
        if listener.tls is Tls.ON and Method.X509 in listener.methods:
            _needed(listener, files)
            if settings.tls_client_ca is None:
                raise StartError(f"{listener.address}: auth=x509 needs tls_client_ca")


def _tls_files(settings: Settings) -> TlsFiles | None:
    if all(listener.tls is not Tls.ON for listener in settings.listeners):
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise StartError("listen: tls=on needs tls_certificate and tls_key")
    try:
        return TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    except TlsFilesError as error:
        raise StartError(str(error)) from None


def _check_rules(listener: Listener, settings: Settings) -> None:
    if settings.admission_file is None and NEEDS_RULES & set(listener.methods):
        raise StartError(
            f"{listener.address}: without admission_file no certificate or token would be admitted"
        )


def _needed(listener: Listener, files: TlsFiles | None) -> TlsFiles:
    if files is None:
        raise StartError(f"{listener.address}: tls=on needs tls_certificate and tls_key")
    return files


def _front(listener: Listener, files: TlsFiles | None, max_connections: int) -> TlsFront | None:
    """The front for a listener that gRPC's TLS cannot serve: that rejects proxies, and asks all clients or none."""
    if listener.tls is not Tls.ON or Method.X509 not in listener.methods:
        return None
    only_certificates = listener.methods == (Method.X509,)
    if only_certificates and not listener.accepts_proxies:
        return None
    return TlsFront(
        _needed(listener, files),
        accept_proxies=listener.accepts_proxies,
        require_certificate=only_certificates,
        max_connections=max_connections,
    )


def _credentials(listener: Listener, files: TlsFiles | None) -> grpc.ServerCredentials | None:
    if listener.tls is not Tls.ON:
        return None
    return server_credentials(
        _needed(listener, files), require_certificate=Method.X509 in listener.methods
    )


def _authenticator(method: Method, identity: Identity) -> Authenticator:
    match method:
        case Method.X509:
            return identity.x509
        case Method.TOKEN:
            return identity.token
        case Method.HOST:
            return HostAuthenticator()
        case Method.LOCAL | Method.SESSION:
            raise ValueError(f"{method} has no authenticator of its own")
        case _:
            assert_never(method)


def _peer_of(
    listener: Listener, settings: Settings
) -> Callable[[str, Mapping[str, str]], str] | None:
    if not listener.is_forwarded:
        return None
    return forwarded_peer(
        settings.proxy_networks,
        settings.forwarded_header,
        trust_socket=listener.socket_path is not None,
    )
