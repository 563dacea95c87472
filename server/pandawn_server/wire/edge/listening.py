"""Takes the addresses that the server listens on, socket files among them."""

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
    """The server cannot listen; the text says where and why."""


def bind(
    server: grpc.aio.Server, listener: Listener, credentials: grpc.ServerCredentials | None
) -> str:
    """Lets a server listen, and returns the address with its actual port. Raises `StartError`."""
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
        # gRPC tells its own settings, and not what is wrong.
        raise StartError(f"cannot listen on {address}: {_why_not(address)}") from None
    if listener.socket_path is not None:
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def open_front(front: TlsFront, listener: Listener, *, reuse_port: bool) -> str:
    """Lets a front accept, and returns the address with its actual port. Raises `StartError`."""
    host, _, port = listener.address.rpartition(":")
    try:
        return f"{host}:{front.start(host, int(port), reuse_port=reuse_port)}"
    except OSError as error:
        raise StartError(f"cannot listen on {listener.address}: {_told(error)}") from None


def _why_not(address: str) -> str:
    """Why nobody can listen at an address, as found by trying once more."""
    if address.startswith("unix:"):
        family: int = socket.AF_UNIX
        places: list[object] = [address.removeprefix("unix:")]
    else:
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            return _told(error)
        family, places = found[0][0], [place for *_, place in found[:1]]
    with socket.socket(family) as trial:
        try:
            trial.bind(places[0])  # type: ignore[arg-type]
        except OSError as error:
            return _told(error)
    return "gRPC refuses it"


def _told(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        return f"{text}; is another server running there?"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{text}; this machine does not have it"
    if error.errno == errno.EACCES:
        return f"{text}; ports below 1024 are root's, and a socket file needs a directory that you may write to"
    return text


@contextmanager
def _socket_mode(listener: Listener) -> Iterator[None]:
    """Gives the socket file that is made meanwhile its mode, from its first moment on."""
    if listener.socket_path is None:
        yield
        return
    # gRPC makes the file; changing the mode afterwards would leave a moment for others.
    before = os.umask(0o777 & ~listener.socket_mode)
    try:
        yield
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    """Takes away the file of a server that has gone. gRPC would take a living one's as well."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot listen on unix:{path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise StartError(f"cannot listen on unix:{path}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        outcome = probe.connect_ex(str(path))
    if outcome != errno.ECONNREFUSED:
        raise StartError(
            f"cannot listen on unix:{path}: {os.strerror(outcome) if outcome else 'another server does'}"
        )
    path.unlink(missing_ok=True)
