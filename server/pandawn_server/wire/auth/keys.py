"""The public keys of token issuers: from files and web addresses, fetched ahead and never by a call.

What was fetched once stays good when the address does not answer: in memory, and on disk for the next
start. So an issuer that is away refuses nobody whose key is known.
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
"""Time between two looks at an address; issuers publish a new key hours before they sign with it."""

RETRY_INTERVAL = timedelta(seconds=30)
"""Time to the next try after a failure, and between two looks for a key that a token names: whoever
sends tokens with made-up keys makes us ask the issuer twice a minute, not more."""

MAX_KEY_SET_BYTES = 1024 * 1024
MAX_KEYS = 100
"""Of one issuer; more are ignored."""

LEAST_RSA_BITS = 2048

_PUBLIC_PARTS = frozenset({"kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y"})
"""Of a JSON web key; what else it holds (`d`!, `x5u`, `x5c`) is not looked at."""

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

_log: Log = structlog.get_logger(__name__)

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key, and the algorithms that it may check: never one of another kind."""

    key_id: str
    key: PublicKey
    algorithms: frozenset[str]


@dataclass
class _Source:
    """What is known of one issuer's keys."""

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
    """Keys by issuer. `look_ahead` and `refresh` run in one thread; the others are quick and may run anywhere.

    Each issuer is asked in a thread of its own, one at a time: who answers slowly, or never, keeps nobody else's.
    """

    directory: Path
    sources: Mapping[str, _Source] = field(default_factory=dict)

    def watch(self, issuers: Iterable[IssuerTable]) -> None:
        """Says whose keys are needed from now on; known keys of those that stay as they are remain."""
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
        """The keys known of an issuer."""
        source = self.sources.get(issuer)
        return () if source is None else source.keys

    def want(self, issuer: str) -> None:
        """Notes that a token was signed by a key that is not known: the next refresh looks for it."""
        source = self.sources.get(issuer)
        if source is not None:
            source.wanted = True

    def look_ahead(self, now: datetime) -> list[threading.Thread]:
        """Reads files that changed and begins to fetch what is due; returns what fetches now."""
        for source in self.sources.values():
            if not source.issuer.is_remote:
                _read(source)
            elif _is_due(source, now) and not (source.fetching and source.fetching.is_alive()):
                source.wanted = False
                source.last_look = now
                # Ends with the process: no stop of the server waits for an issuer.
                source.fetching = threading.Thread(
                    target=self._fetch, args=(source, now), name="keys", daemon=True
                )
                source.fetching.start()
        return [s.fetching for s in self.sources.values() if s.fetching and s.fetching.is_alive()]

    def refresh(self, now: datetime) -> None:
        """The same, and waits for all of it."""
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
            # Whole or not at all: a server that starts meanwhile reads the old one.
            handle, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(name).replace(path)
        except OSError as error:
            _log.warning("keys of a token issuer are not kept on disk", error=str(error))

    def _file(self, issuer: IssuerTable) -> Path:
        # By the address: a site that points an issuer elsewhere does not get the keys of before.
        name = hashlib.sha256(f"{issuer.url}\n{issuer.jwks}".encode()).hexdigest()
        return self.directory / f"{name}.json"


def parse_key_set(content: bytes) -> tuple[IssuerKey, ...]:
    """The usable keys of a JSON web key set. Raises `ValueError` if it is none, or has none."""
    try:
        parsed = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no JSON web key set: it has no list `keys`")  # noqa: TRY004 (content, no argument)
    keys = [key for entry in entries[:MAX_KEYS] if (key := _parse_key(entry)) is not None]
    if not keys:
        raise ValueError("it holds no public key that can check signatures")
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
    """What a key may check. A shared secret (`oct`) is no public key and checks nothing."""
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
    """Says so once, not at each look."""
    if complaint != source.complaint:
        source.complaint = complaint
        _log.warning(
            complaint, issuer=source.issuer.url, jwks=source.issuer.jwks, known=len(source.keys)
        )
