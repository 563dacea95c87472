"""Binds the addresses that the server listens on, including socket files."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio

from pandawn_server.listeners import Listener
from pandawn_server.wire.auth.front import TlsFront


class StartError(Exception):
    """The server cannot listen; the text names the address and the reason."""


def bind(
    server: grpc.aio.Server, listener: Listener, credentials: grpc.ServerCredentials | None
) -> str:
    """Binds a listener, and returns the address with its actual port. Raises `StartError`."""
    address = listener.address
    if listener.socket_path is not None:
        _clear(Path(listener.socket_path))
    try:
        with _socket_mode(listener):
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
    except RuntimeError:
        # gRPC's error names its own options, not the cause.
        raise StartError(f"cannot listen on {address}: {_why_not(address)}") from None
    if listener.socket_path is not None:
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def open_front(front: TlsFront, listener: Listener, *, reuse_port: bool) -> str:
    """Starts a front, and returns the address with its actual port. Raises `StartError`."""
    host, _, port = listener.address.rpartition(":")
    try:
        return f"{host}:{front.start(host, int(port), reuse_port=reuse_port)}"
    except OSError as error:
        raise StartError(f"cannot listen on {listener.address}: {_described(error)}") from None


def _why_not(address: str) -> str:
    """Why an address cannot be bound, found by trying once more."""
    if address.startswith("unix:"):
        family: int = socket.AF_UNIX
        places: list[object] = [address.removeprefix("unix:")]
    else:
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            return _described(error)
        family, places = found[0][0], [place for *_, place in found[:1]]
    with socket.socket(family) as trial:
        try:
            trial.bind(places[0])  # type: ignore[arg-type]
        except OSError as error:
            return _described(error)
    return "gRPC rejects it"


def _described(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        return f"{text}; does another server run there?"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{text}; this machine does not have that address"
    if error.errno == errno.EACCES:
        return f"{text}; ports below 1024 need root, and a socket file needs a directory that you may write to"
    return text


@contextmanager
def _socket_mode(listener: Listener) -> Iterator[None]:
    """Sets the umask so that a socket file gets its mode when it is created."""
    if listener.socket_path is None:
        yield
        return
    # gRPC creates the file; a later chmod would leave a moment in which others can connect.
    before = os.umask(0o777 & ~listener.socket_mode)
    try:
        yield
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    """Removes the socket file of a server that no longer runs. gRPC would remove a live server's file too."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot listen on unix:{path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise StartError(f"cannot listen on unix:{path}: the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        outcome = probe.connect_ex(str(path))
    if outcome != errno.ECONNREFUSED:
        raise StartError(
            f"cannot listen on unix:{path}: {os.strerror(outcome) if outcome else 'another server listens there'}"
        )
    path.unlink(missing_ok=True)
