"""Fetches the list of queues from a file or a web server, with limits on size and time."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import stat
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

# ATLAS has about a thousand queues of 10 KB each.
MAX_BYTES = 128 * 1024 * 1024
# For the whole download: name lookup, connection, redirects, body. The command may run every few minutes.
FETCH_TIMEOUT_S = 60.0
_CHUNK_BYTES = 256 * 1024
_WEB = ("http", "https")
_NOT_MODIFIED = 304


class SourceError(Exception):
    """The list could not be fetched; the text says why, `remedy` what may help."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Validators:
    """A web server's validators of the version that it sent, to request only a newer one."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of the list."""

    body: bytes
    validators: Validators = Validators()

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.body).hexdigest()


def fetch(
    source: str,
    *,
    ca: Path | None = None,
    known: Validators | None = None,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = FETCH_TIMEOUT_S,
) -> Fetched | None:
    """Returns the list from a path, a `file:` URL or an http(s) URL.

    None: the server has no other version than the `known` one. `ca` is a file of certificates
    to trust instead of the system's.

    Raises:
        SourceError: It cannot be read, is larger than `max_bytes`, or takes too long.
    """
    parts = urlsplit(source) if "://" in source else None
    if parts is None:
        return Fetched(_read_file(Path(source).expanduser(), max_bytes))
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise SourceError(
                f"{source} is a file on another machine", f"write file://{parts.path}"
            )
        return Fetched(_read_file(Path(unquote(parts.path)), max_bytes))
    if parts.scheme not in _WEB:
        raise SourceError(f"{source}: the scheme {parts.scheme}: is not supported", _SCHEMES)
    return _within(timeout_s, source, _Download(source, ca, known or Validators(), max_bytes))


_SCHEMES = "give a path, or a URL with file:, http: or https:"


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        # A pipe may have no writer, and a device no end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceError(f"{path} is not a regular file", _SCHEMES)
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}", _SCHEMES) from error
    if len(body) > max_bytes:
        raise _too_large(str(path), max_bytes)
    return body


def _too_large(name: str, max_bytes: int) -> SourceError:
    return SourceError(f"{name} is larger than {max_bytes / 1024**2:g} MiB; it was not read")


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from https only to https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in _WEB or (req.type == "https" and scheme != "https"):
            fp.close()
            raise SourceError(f"{req.full_url} redirects to {newurl}, which is not trusted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(slots=True)
class _Download:
    """One download, which runs in its own thread."""

    url: str
    ca: Path | None
    known: Validators
    max_bytes: int
    deadline: float = 0.0

    def __call__(self) -> Fetched | None:
        headers = {"Accept": "application/json", "User-Agent": "pandawn"}
        if self.known.etag:
            headers["If-None-Match"] = self.known.etag
        if self.known.last_modified:
            headers["If-Modified-Since"] = self.known.last_modified
        try:
            # The scheme was checked by the caller.
            request = urllib.request.Request(self.url, headers=headers)  # noqa: S310
            with self._opener().open(request, timeout=max(0.1, self._left_s())) as response:
                return Fetched(self._body(response), _validators(response.headers))
        except urllib.error.HTTPError as error:
            # The error is also a response, with an open connection.
            error.close()
            if error.code == _NOT_MODIFIED:
                return None
            raise SourceError(f"{self.url} answered {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from error

    def _opener(self) -> urllib.request.OpenerDirector:
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except OSError as error:
            raise SourceError(
                f"{self.ca} has no readable certificates: {error.strerror or error}",
                "give a file of certificates in PEM with --ca",
            ) from error
        opener = urllib.request.OpenerDirector()
        # Only these: urllib's own choice would also open ftp: and local files.
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            _NoDowngrade(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            opener.add_handler(handler)
        return opener

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        promised = response.headers.get("Content-Length", "")
        if promised.isdecimal() and int(promised) > self.max_bytes:
            raise _too_large(self.url, self.max_bytes)
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self.max_bytes:
                raise _too_large(self.url, self.max_bytes)
            if self._left_s() <= 0:
                raise TimeoutError("the server sends too slowly")
        if promised.isdecimal() and len(body) < int(promised):
            raise SourceError(
                f"{self.url} broke off after {len(body):,} of {promised} bytes", "try again"
            )
        return bytes(body)

    def _left_s(self) -> float:
        return self.deadline - time.monotonic()

    def _unreachable(self, reason: object) -> SourceError:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return SourceError(
                f"the certificate of {self.url} is not trusted: {reason.verify_message}",
                "name the certificate authority with --ca FILE",
            )
        if isinstance(reason, OSError) and reason.strerror:
            reason = reason.strerror
        return SourceError(
            f"{self.url} cannot be read: {reason}", "check the address, or give a file of its list"
        )


def _validators(headers: http.client.HTTPMessage) -> Validators:
    return Validators(headers.get("ETag", ""), headers.get("Last-Modified", ""))


def _within(timeout_s: float, source: str, download: _Download) -> Fetched | None:
    """Runs the download in a thread, so that neither a name server nor slow headers can block the command."""
    download.deadline = time.monotonic() + timeout_s
    results: list[Fetched | None] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(download())
        except BaseException as error:  # noqa: BLE001 - it is raised again below, in the caller
            failures.append(error)

    thread = threading.Thread(target=run, name="cric-download", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failures:
        raise failures[0]
    if not results:
        raise SourceError(f"{source} did not send the list within {timeout_s:g} s", "try again")
    return results[0]
