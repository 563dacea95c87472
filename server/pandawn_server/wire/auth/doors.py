"""Makes a door of each address that the settings name: who is let in there, and by which authenticators."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import grpc

from pandawn_server.config import Settings
from pandawn_server.domain.principals import LOCAL_OPERATOR, Method, Principal
from pandawn_server.listeners import Listener, Tls
from pandawn_server.telemetry.api import Telemetry
from pandawn_server.wire.auth.api import Authenticator
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.auth.host import HostAuthenticator
from pandawn_server.wire.auth.peers import forwarded_peer
from pandawn_server.wire.listening import StartError
from pandawn_server.wire.policies import OPEN_METHODS, REFLECTION_METHODS
from pandawn_server.wire.server import Door

_MAKERS: Mapping[Method, Callable[[Settings], Authenticator]] = {
    Method.HOST: lambda _settings: HostAuthenticator(),
}


def doors(
    settings: Settings,
    telemetry: Telemetry,
    sessions: Authenticator,
    has_ended: Callable[[Principal], bool],
) -> list[Door]:
    """One door for each `listen` entry. Raises `StartError` for what cannot be had."""
    return [
        Door(
            listener,
            _gate(listener, settings, telemetry, sessions, has_ended),
            server_credentials(listener, settings),
        )
        for listener in settings.listeners
    ]


def server_credentials(listener: Listener, settings: Settings) -> grpc.ServerCredentials | None:
    """What an address needs to speak TLS; None without it. Raises `StartError`."""
    del settings
    if listener.tls is Tls.ON:
        raise StartError(f"{listener.address}: this server has no certificate for tls=on")
    return None


def _gate(
    listener: Listener,
    settings: Settings,
    telemetry: Telemetry,
    sessions: Authenticator,
    has_ended: Callable[[Principal], bool],
) -> Gate:
    return Gate(
        [_authenticator(m, listener, settings) for m in listener.methods if m is not Method.LOCAL],
        sessions=sessions,
        has_ended=has_ended,
        otherwise=LOCAL_OPERATOR if listener.admits_this_machine else None,
        peer_of=_peer_of(listener, settings),
        open_methods=OPEN_METHODS
        | (REFLECTION_METHODS if settings.reflection == "anybody" else frozenset()),
        telemetry=telemetry,
    )


def _authenticator(method: Method, listener: Listener, settings: Settings) -> Authenticator:
    make = _MAKERS.get(method)
    if make is None:
        raise StartError(f"{listener.address}: this server cannot check {method.value} credentials")
    return make(settings)


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
