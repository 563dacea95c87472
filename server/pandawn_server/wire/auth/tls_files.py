"""The server's certificate and key, and the clients' authorities; read again when the files change.

Renewing a certificate replaces two files, one after the other. While they do not match, the last ones that did
stay in use.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pandawn_server.logs import Log

LOOK_INTERVAL_S = 1.0
"""Minimum interval between checks of the files, in seconds: connections may come by the hundred."""

_log: Log = structlog.get_logger(__name__)

_Mark = tuple[tuple[str, int, int, int], ...]


class TlsFilesError(Exception):
    """The files cannot be used; the text names the file and the reason."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """The content of the files, and the paths of certificate and key. `authorities` are the clients', each once."""

    certificate: Path
    key: Path
    chain_pem: bytes
    key_pem: bytes
    authorities: tuple[x509.Certificate, ...]
    authorities_pem: bytes


class TlsFiles:
    """The files and their last content. Any thread may use it."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Reads the files. `client_ca` is a bundle, or a directory like /etc/grid-security/certificates.

        Raises `TlsFilesError`.
        """
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._lock = threading.Lock()
        self._mark = self._look()
        self._material = self._read()
        self._next_look = 0.0
        self._complained_of: _Mark | None = None

    def current(self) -> TlsMaterial:
        """The current content: the same object as long as nothing changes."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + LOOK_INTERVAL_S
                self._refresh()
            return self._material

    def _refresh(self) -> None:
        try:
            mark = self._look()
            if mark == self._mark:
                return
            material = self._read()
        except TlsFilesError as error:
            if self._complained_of != (mark := self._safe_look()):
                self._complained_of = mark
                _log.warning("changed TLS files are not used yet", reason=str(error))
            return
        self._mark, self._material = mark, material
        _log.info("TLS files read again", certificate=str(self._certificate))

    def _safe_look(self) -> _Mark:
        try:
            return self._look()
        except TlsFilesError:
            return ()

    def _look(self) -> _Mark:
        """The state of the files; it also shows a file that was replaced within a second."""
        mark = []
        for path in (self._certificate, self._key, *_files(self._client_ca)):
            try:
                status = path.stat()
            except OSError as error:
                raise TlsFilesError(f"cannot read {path}: {error.strerror}") from None
            mark.append((str(path), status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(mark)

    def _read(self) -> TlsMaterial:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # OpenSSL checks that the key belongs to the certificate.
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
            chain_pem, key_pem = self._certificate.read_bytes(), self._key.read_bytes()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise TlsFilesError(
                f"the certificate {self._certificate} and the key {self._key} cannot be used: {error}"
            ) from None
        authorities = read_authorities(self._client_ca)
        pem = b"".join(a.public_bytes(Encoding.PEM) for a in authorities)
        return TlsMaterial(self._certificate, self._key, chain_pem, key_pem, authorities, pem)


def read_authorities(path: Path | None) -> tuple[x509.Certificate, ...]:
    """The certificates of a bundle, or of all files in a directory. Raises `TlsFilesError`."""
    found: dict[bytes, x509.Certificate] = {}
    for file in _files(path):
        try:
            content = file.read_bytes()
            certificates = (
                x509.load_pem_x509_certificates(content) if b"BEGIN CERTIFICATE" in content else []
            )
        except (OSError, ValueError) as error:
            if file == path:
                raise TlsFilesError(f"cannot read the authorities in {path}: {error}") from None
            # One bad file among hundreds must not disable the others.
            _log.warning("a file with authorities is not used", file=str(file), reason=str(error))
            continue
        for certificate in certificates:
            found[certificate.public_bytes(Encoding.DER)] = certificate
    if path is not None and not found:
        raise TlsFilesError(f"there is no certificate of an authority in {path}")
    return tuple(found.values())


def _files(path: Path | None) -> Sequence[Path]:
    if path is None:
        return ()
    if not path.is_dir():
        return (path,)
    # OpenSSL's hashed names (.0) may link to .pem files, or stand alone.
    return sorted(file for file in path.iterdir() if file.suffix in {".pem", ".crt", ".0", ".1"})


def _no_password() -> str:
    raise ValueError("the key has a password; the server needs a key without one")


def server_credentials(files: TlsFiles, *, require_certificate: bool) -> grpc.ServerCredentials:
    """Credentials for gRPC's own TLS, which checks at each new connection whether the files changed.

    gRPC asks either all clients for a certificate or none; for both on one address, use `TlsFront`.
    Raises `TlsFilesError` if there are no authorities to check certificates with.
    """
    if require_certificate and not files.current().authorities:
        raise TlsFilesError(
            "clients must show certificates, but tls_client_ca is not set: set it to the authorities to trust"
        )
    used = files.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        material = files.current()
        if material is used:
            return None
        used = material
        return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        fetch,  # type: ignore[arg-type] # None is "no change", whatever the type stubs say
        require_certificate,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key_pem, material.chain_pem)], root_certificates=material.authorities_pem or None
    )
