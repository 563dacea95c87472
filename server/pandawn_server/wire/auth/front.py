"""A TLS front before a gRPC server in the same process, for what gRPC's own TLS cannot do.

gRPC's BoringSSL rejects RFC 3820 proxies, and asks either all clients for certificates or none. Here OpenSSL
terminates TLS and passes the bytes on through a Unix socket, in a directory that only this user can enter. The
front binds its end of each connection to a unique name, which gRPC reports as the peer. The caller is looked up by
that name, so nothing that a client sends can forge it.

All this costs CPU time in the event loop, so plain TLS is left to gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import shutil
import socket
import ssl
import sys
import time
import weakref
from dataclasses import dataclass
from datetime import timedelta

import structlog

from pandawn_server.logs import Log
from pandawn_server.wire.auth.noise import HandshakeNoise
from pandawn_server.wire.auth.private_directory import SOCKET_NAME, make_private_directory
from pandawn_server.wire.auth.relay import Side, join
from pandawn_server.wire.auth.tls_files import TlsFiles, TlsFilesError, TlsMaterial

HANDSHAKE_TIMEOUT = timedelta(seconds=10)
"""Time limit for the TLS handshake; a distant node under load needs one or two seconds."""

MAX_CONNECTIONS = 10_000
"""Maximum connections of one front; more are closed at once. Each takes two descriptors."""

BACKLOG = 512

_PAUSE_AFTER_ERROR_S = 0.1
"""Pause before the next accept after an error, such as a lack of descriptors."""

_log: Log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FrontCaller:
    """The other end of a connection: its address in gRPC's form, and its verified chain in DER."""

    peer: str
    certificates: tuple[bytes, ...]


class TlsFront:
    """Listens with TLS on one address for the server that listens at `backend`."""

    def __init__(
        self,
        files: TlsFiles,
        *,
        accept_proxies: bool = False,
        require_certificate: bool = False,
        max_connections: int = MAX_CONNECTIONS,
        handshake_timeout: timedelta = HANDSHAKE_TIMEOUT,
    ) -> None:
        """Raises `TlsFilesError` if there are no authorities to check certificates with."""
        self._files = files
        self._accept_proxies = accept_proxies
        self._require_certificate = require_certificate
        self._max_connections = max_connections
        self._handshake_timeout = handshake_timeout
        self._used = files.current()
        self._context = self._make_context(self._used)
        self._directory = make_private_directory()
        # Removes the directory even if the server ends before it starts.
        self._remove = weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._numbers = itertools.count()
        self._callers: dict[str, FrontCaller] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._noise = HandshakeNoise(time.monotonic)

    @property
    def backend(self) -> str:
        """The address, in gRPC's form, that the gRPC server behind must listen on before the front starts."""
        return f"unix:{self._backend_path}"

    @property
    def _backend_path(self) -> str:
        return str(self._directory / SOCKET_NAME)

    def caller(self, backend_peer: str) -> FrontCaller | None:
        """The caller behind what gRPC reports as the peer; None if the connection is gone, or not ours."""
        return self._callers.get(backend_peer)

    def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Starts to accept, and returns the port. Raises `OSError`; call it in the event loop."""
        bare = host.removeprefix("[").removesuffix("]")
        family, _, _, _, address = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self._listener = socket.create_server(
            (address[0], port),
            family=family,
            backlog=BACKLOG,
            reuse_port=reuse_port,
            # As in gRPC, [::] includes IPv4.
            dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
        )
        self._listener.setblocking(False)  # noqa: FBT003 (its only argument)
        self._accepting = asyncio.ensure_future(self._accept(self._listener))
        bound: int = self._listener.getsockname()[1]
        return bound

    async def refuse_new(self) -> None:
        """Accepts no more connections; open ones stay."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def stop(self) -> None:
        """Closes all connections and removes the files of this front."""
        await self.refuse_new()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        self._remove()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._noise.record("", f"cannot accept a connection: {error}")
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                continue
            if len(self._connections) >= self._max_connections:
                client.close()
                self._noise.record("", f"more than {self._max_connections} connections are open")
                continue
            task = asyncio.ensure_future(self._serve(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        """Serves one connection from start to end."""
        with contextlib.ExitStack() as closing:
            closing.callback(client.close)
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = _peer(client.getpeername())
            except OSError:
                return  # it is gone already
            front = await self._shake_hands(client, peer)
            if front is None:
                return
            closing.callback(front.abort)
            name = f"{self._directory}/{next(self._numbers)}"
            self._callers[f"unix:{name}"] = FrontCaller(peer, _verified_chain(front.ssl_object))
            closing.callback(self._callers.pop, f"unix:{name}")
            try:
                back = await self._connect(name)
            except OSError as error:
                _log.error("the gRPC server behind the TLS front does not answer", error=str(error))
                return
            closing.callback(back.abort)
            await join(front, back)

    async def _shake_hands(self, client: socket.socket, peer: str) -> Side | None:
        loop = asyncio.get_running_loop()
        side = Side()
        try:
            await loop.connect_accepted_socket(
                lambda: side,
                client,
                ssl=self._current_context(),
                ssl_handshake_timeout=self._handshake_timeout / timedelta(seconds=1),
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            side.abort()
            self._noise.record(_host(peer), str(error))
            return None
        if side.ssl_object.selected_alpn_protocol() != "h2":
            side.abort()
            self._noise.record(_host(peer), "the client speaks no HTTP/2")
            return None
        return side

    async def _connect(self, name: str) -> Side:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)  # noqa: FBT003 (its only argument)
            sock.bind(name)
            await loop.sock_connect(sock, self._backend_path)
            side = Side()
            await loop.create_unix_connection(lambda: side, sock=sock)
        except BaseException:
            sock.close()
            raise
        finally:
            # The socket keeps its name; the file is no longer needed.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108 (faster than a Path, and it runs for each connection)
        return side

    def _current_context(self) -> ssl.SSLContext:
        material = self._files.current()
        if material is not self._used:
            try:
                self._context = self._make_context(material)
            except OSError as error:
                # They changed again after they were read; the next connection retries.
                _log.warning("changed TLS files are not used yet", reason=str(error))
            else:
                self._used = material
        return self._context

    def _make_context(self, material: TlsMaterial) -> ssl.SSLContext:
        if not material.authorities:
            raise TlsFilesError(
                "clients may show certificates, but tls_client_ca is not set: set it to the authorities to trust"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Every gRPC client supports it, and it has no renegotiation and no resumption by session id.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # A resumed session keeps only the leaf, not the chain above a proxy.
        context.num_tickets = 0
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(material.certificate, material.key)
        context.load_verify_locations(cadata=material.authorities_pem.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED if self._require_certificate else ssl.CERT_OPTIONAL
        if self._accept_proxies:
            context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
        return context


def _verified_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain as OpenSSL verified it, leaf first and root last; empty if there is none."""
    if sys.version_info >= (3, 13):
        return tuple(tls.get_verified_chain())
    # Public since Python 3.13; in 3.10 to 3.12 the method is private and returns objects.
    found = tls._sslobj.get_verified_chain()  # type: ignore[attr-defined] # noqa: SLF001
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in found or ())


def _host(peer: str) -> str:
    """The host of a peer, without its port."""
    return peer.rpartition(":")[0].partition(":")[2].strip("[]")


def _peer(address: tuple[str, int]) -> str:
    """A peer in gRPC's form."""
    host, port = address[:2]
    parsed = ipaddress.ip_address(host.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    if mapped is not None:
        parsed = mapped
    if parsed.version == 4:
        return f"ipv4:{parsed}:{port}"
    return f"ipv6:[{parsed}]:{port}"
