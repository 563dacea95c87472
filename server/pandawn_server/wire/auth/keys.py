"""The public keys of token issuers: from files and web addresses, fetched in advance and never during a call.

Fetched keys stay valid while the address does not answer: in memory, and on disk for the next start. So an
issuer that is down locks out nobody whose key is known.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from pandawn_server.admission_config import IssuerTable
from pandawn_server.logs import Log
from pandawn_server.wire.auth.download import download

FETCH_INTERVAL = timedelta(minutes=10)
"""Interval between fetches; issuers publish a new key hours before they sign with it."""

RETRY_INTERVAL = timedelta(seconds=30)
"""Time to the next try after a failure, and minimum interval between fetches for unknown keys: tokens with invented
keys cause at most two requests a minute."""

MAX_KEY_SET_BYTES = 1024 * 1024
MAX_KEYS = 100
"""Maximum keys of one issuer; more are ignored."""

LEAST_RSA_BITS = 2048

_PUBLIC_PARTS = frozenset({"kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y"})
"""Fields of a JSON web key that are read; others (`d`!, `x5u`, `x5c`) are ignored."""

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

_log: Log = structlog.get_logger(__name__)

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key, and the algorithms it may verify; these never include those of another key type."""

    key_id: str
    key: PublicKey
    algorithms: frozenset[str]


@dataclass
class _Source:
    """The state of one issuer's keys."""

    issuer: IssuerTable
    keys: tuple[IssuerKey, ...] = ()
    next_look: datetime | None = None
    last_look: datetime | None = None
    wanted: bool = False
    mark: tuple[int, int] | None = None
    complaint: str = ""
    fetching: threading.Thread | None = None


@dataclass
class KeyRing:
    """Keys by issuer. One thread calls `look_ahead` and `refresh`; the other methods are fast, for any thread.

    Each issuer is fetched from in a thread of its own, so a slow one does not delay the others.
    """

    directory: Path
    sources: Mapping[str, _Source] = field(default_factory=dict)

    def watch(self, issuers: Iterable[IssuerTable]) -> None:
        """Sets the issuers to follow; keeps the keys of those whose address is unchanged."""
        sources: dict[str, _Source] = {}
        for issuer in issuers:
            known = self.sources.get(issuer.url)
            if known is not None and known.issuer.jwks == issuer.jwks:
                known.issuer = issuer
                sources[issuer.url] = known
            else:
                source = _Source(issuer, self._stored(issuer))
                if not issuer.is_remote:
                    _read(source)
                sources[issuer.url] = source
        self.sources = sources

    def keys(self, issuer: str) -> tuple[IssuerKey, ...]:
        """The known keys of an issuer."""
        source = self.sources.get(issuer)
        return () if source is None else source.keys

    def want(self, issuer: str) -> None:
        """Records that a token names an unknown key: the next refresh fetches the keys."""
        source = self.sources.get(issuer)
        if source is not None:
            source.wanted = True

    def look_ahead(self, now: datetime) -> list[threading.Thread]:
        """Reads changed files and starts fetches that are due; returns the running threads."""
        for source in self.sources.values():
            if not source.issuer.is_remote:
                _read(source)
            elif _is_due(source, now) and not (source.fetching and source.fetching.is_alive()):
                source.wanted = False
                source.last_look = now
                # A daemon: stopping the server must not wait for an issuer.
                source.fetching = threading.Thread(
                    target=self._fetch, args=(source, now), name="keys", daemon=True
                )
                source.fetching.start()
        return [s.fetching for s in self.sources.values() if s.fetching and s.fetching.is_alive()]

    def refresh(self, now: datetime) -> None:
        """The same, but waits for the fetches."""
        for thread in self.look_ahead(now):
            thread.join()

    def _fetch(self, source: _Source, now: datetime) -> None:
        try:
            content = download(source.issuer.jwks, source.issuer.jwks_ca, MAX_KEY_SET_BYTES)
            keys = parse_key_set(content)
        except (OSError, ValueError, HTTPException) as error:
            source.next_look = now + RETRY_INTERVAL
            _complain(source, f"cannot fetch the keys: {error}")
            return
        source.next_look = now + FETCH_INTERVAL
        _adopt(source, keys)
        self._store(source.issuer, content)

    def _stored(self, issuer: IssuerTable) -> tuple[IssuerKey, ...]:
        if not issuer.is_remote:
            return ()
        try:
            return parse_key_set(self._file(issuer).read_bytes())
        except (OSError, ValueError):
            return ()

    def _store(self, issuer: IssuerTable, content: bytes) -> None:
        path = self._file(issuer)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Written atomically: a server that starts meanwhile reads the old file.
            handle, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(name).replace(path)
        except OSError as error:
            _log.warning("keys of a token issuer are not kept on disk", error=str(error))

    def _file(self, issuer: IssuerTable) -> Path:
        # Named after the address too: an issuer with a new address must not get the old keys.
        name = hashlib.sha256(f"{issuer.url}\n{issuer.jwks}".encode()).hexdigest()
        return self.directory / f"{name}.json"


def parse_key_set(content: bytes) -> tuple[IssuerKey, ...]:
    """Parses a JSON web key set into its usable keys. Raises `ValueError` if it is invalid or has none."""
    try:
        parsed = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is not a JSON web key set: it has no list `keys`")  # noqa: TRY004 (content, no argument)
    keys = [key for entry in entries[:MAX_KEYS] if (key := _parse_key(entry)) is not None]
    if not keys:
        raise ValueError("it holds no public key that can verify signatures")
    return tuple(keys)


def _parse_key(entry: object) -> IssuerKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    try:
        made = PyJWK({name: value for name, value in entry.items() if name in _PUBLIC_PARTS})
        key = made.key
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithms = _algorithms(key)
    if "alg" in entry:
        algorithms &= {str(entry["alg"])}
    if not algorithms:
        return None
    return IssuerKey(str(entry.get("kid", "")), key, algorithms)


def _algorithms(key: object) -> frozenset[str]:
    """The algorithms a key may verify. A shared secret (`oct`) is not a public key, and verifies nothing."""
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_ALGORITHMS if key.key_size >= LEAST_RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_CURVES[key.curve.name]} if key.curve.name in _CURVES else ())
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def _is_due(source: _Source, now: datetime) -> bool:
    if source.next_look is None or source.next_look <= now:
        return True
    rested = source.last_look is None or source.last_look + RETRY_INTERVAL <= now
    return source.wanted and rested


def _read(source: _Source) -> None:
    path = Path(source.issuer.jwks)
    try:
        status = path.stat()
        mark = (status.st_mtime_ns, status.st_ino)
        if mark == source.mark:
            return
        keys = parse_key_set(path.read_bytes())
    except (OSError, ValueError) as error:
        _complain(source, f"cannot read the keys in {path}: {error}")
        return
    source.mark = mark
    _adopt(source, keys)


def _adopt(source: _Source, keys: tuple[IssuerKey, ...]) -> None:
    source.complaint = ""
    if [key.key_id for key in keys] != [key.key_id for key in source.keys]:
        _log.info("keys of a token issuer", issuer=source.issuer.url, keys=[k.key_id for k in keys])
    source.keys = keys


def _complain(source: _Source, complaint: str) -> None:
    """Logs a problem once, not at each retry."""
    if complaint != source.complaint:
        source.complaint = complaint
        _log.warning(
            complaint, issuer=source.issuer.url, jwks=source.issuer.jwks, known=len(source.keys)
        )
