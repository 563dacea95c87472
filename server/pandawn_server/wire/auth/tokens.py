"""Callers with a bearer token: JWTs of the WLCG profile, of SciTokens, and plain ones of a site's issuer.

The library checks signature, issuer and audience. The times in the token are compared with the server's clock here,
because time is an argument in this code. What a token says about where to find keys (`jku`, `x5u`, `jwk`) is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import jwt
from jwt.exceptions import (
    InvalidAudienceError,
    InvalidSignatureError,
    PyJWTError,
)

from pandawn_server.admission_config import IssuerTable
from pandawn_server.domain.access.admission import Admission, Shown
from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.wire.auth.api import AUTHORIZATION, Evidence
from pandawn_server.wire.auth.keys import IssuerKey, KeyRing

MAX_TOKEN_BYTES = 16 * 1024
"""Maximum size of a token; gRPC accepts no more metadata anyway."""

LEEWAY = timedelta(seconds=30)
"""Tolerance for the clocks of issuers."""

MAX_SUBJECT_CHARS = 255
"""Maximum length of `sub` (OpenID Connect Core 1.0, section 2)."""

_VERSIONS = {"wlcg.ver": ("1.",), "ver": ("scitoken:2.", "scitokens:2.")}
"""Profiles by the claim that names them, with the known version prefixes. A `ver` of another form belongs to some
other profile."""

_GROUP_CLAIMS = ("wlcg.groups", "groups")
_READABLE_CLAIMS = ("preferred_username", "name", "sub")

Claims = Mapping[str, object]


class TokenAuthenticator:
    """Reads `authorization: Bearer`."""

    name = Method.TOKEN.value
    expects = "a bearer token of an issuer it trusts"

    def __init__(
        self,
        admission: Callable[[], Admission],
        issuers: Callable[[], Mapping[str, IssuerTable]],
        keys: KeyRing,
    ) -> None:
        """`admission` and `issuers` are called each time, because they change while the server runs."""
        self._admission = admission
        self._issuers = issuers
        self._keys = keys

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        """See `Authenticator`. Raises also `ForbiddenError` when no rule admits the holder."""
        header = evidence.metadata.get(AUTHORIZATION)
        if header is None:
            return None
        return self._admission().admit(self.read(_bearer(header), now))

    def read(self, token: str, now: datetime) -> Shown:
        """Checks a token and returns what it says. Raises `UnauthenticatedError`."""
        if len(token) > MAX_TOKEN_BYTES:
            raise _malformed(f"it has more than {MAX_TOKEN_BYTES:,} bytes")
        header, peeked = _peek(token)
        url = peeked.get("iss")
        issuer = self._issuers().get(url) if isinstance(url, str) else None
        if issuer is None:
            raise UnauthenticatedError(
                "UNKNOWN_ISSUER",
                f"the token was issued by {str(url)[:300]!r}, which is not trusted here; the issuer's name must "
                "match to the letter, with or without a slash at the end",
                metadata={"issuer": str(url)},
            )
        claims = self._verified(token, header, issuer)
        return _shown(claims, issuer, _expire_time(claims, now))

    def _verified(self, token: str, header: Claims, issuer: IssuerTable) -> Claims:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise UnauthenticatedError(
                "ALGORITHM_NOT_ALLOWED",
                f"the token is signed with {str(algorithm)[:40]!r}; "
                f"{issuer.url} may use: {', '.join(issuer.algorithms)}",
            )
        if "crit" in header:
            raise _malformed("it requires extensions (`crit`), and this server supports none")
        for key in self._candidates(header, algorithm, issuer):
            try:
                decoded: Claims = jwt.decode(
                    token,
                    key=key.key,
                    algorithms=[algorithm],
                    audience=issuer.audience,
                    issuer=issuer.url,
                    options={
                        "require": ["iss", "sub", "aud", "exp"],
                        # Compared with the server's clock by `_expire_time`.
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                        "verify_jti": False,
                    },
                )
            except InvalidSignatureError:
                continue
            except InvalidAudienceError:
                raise UnauthenticatedError(
                    "WRONG_AUDIENCE",
                    "the token is for another service; get one for the audience "
                    f"{' or '.join(issuer.audience)}",
                    metadata={"audience": issuer.audience[0]},
                ) from None
            except (PyJWTError, RecursionError, TypeError, ValueError) as error:
                raise _malformed(str(error)) from None
            return decoded
        raise UnauthenticatedError(
            "BAD_SIGNATURE",
            f"the token was not signed by {issuer.url}, or was changed on the way; get a new one",
        )

    def _candidates(self, header: Claims, algorithm: str, issuer: IssuerTable) -> list[IssuerKey]:
        known = self._keys.keys(issuer.url)
        key_id = header.get("kid")
        named = [key for key in known if key_id is None or key.key_id == key_id]
        if not named:
            # The issuer may have a new key; the next refresh fetches it.
            self._keys.want(issuer.url)
            raise UnauthenticatedError(
                "UNKNOWN_KEY",
                f"the token names the key {str(key_id)[:100]!r} of {issuer.url}, which is not known here yet: "
                "try again in a minute, then get a new token",
                metadata={"issuer": issuer.url},
            )
        return [key for key in named if algorithm in key.algorithms]


def _bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError(
            "TOKEN_MALFORMED", "the metadata `authorization` is not `Bearer TOKEN`"
        )
    if not token.isascii() or any(char.isspace() or char == "," for char in token):
        raise _malformed("it is not one word; was it sent twice?")
    return token


def _peek(token: str) -> tuple[Claims, Claims]:
    """Header and claims before verification: only to find the key."""
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except (PyJWTError, RecursionError, TypeError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _malformed(reason) from None
    return decoded["header"], decoded["payload"]


def _expire_time(claims: Claims, now: datetime) -> datetime:
    """When the token expires. Raises `UnauthenticatedError` if it has, or is not valid yet."""
    for name in ("nbf", "iat"):
        begin = _time(claims, name)
        if begin is not None and begin > now + LEEWAY:
            raise UnauthenticatedError(
                "TOKEN_NOT_YET_VALID",
                f"the token is valid from {begin:%Y-%m-%d %H:%M:%S} UTC on ({name}), and here it is "
                f"{now:%Y-%m-%d %H:%M:%S}; is a clock wrong?",
            )
    end = _time(claims, "exp")
    assert end is not None, "it is required"
    if end <= now - LEEWAY:
        raise UnauthenticatedError(
            "TOKEN_EXPIRED",
            f"the token was valid until {end:%Y-%m-%d %H:%M:%S} UTC; get a new one",
        )
    return end


def _time(claims: Claims, name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _malformed(f"{name!r} is not a number of seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        raise _malformed(f"{name!r} is out of range") from None


def _shown(claims: Claims, issuer: IssuerTable, expire_time: datetime) -> Shown:
    for name, known in _VERSIONS.items():
        version = claims.get(name)
        if version is None or (name == "ver" and not str(version).startswith("scitoken")):
            continue
        if not str(version).startswith(known):
            raise UnauthenticatedError(
                "TOKEN_PROFILE_UNKNOWN",
                f"the token follows version {str(version)[:40]!r} of its profile ({name}), which is not supported",
            )
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
        raise _malformed(f"'sub' is not a text of 1 to {MAX_SUBJECT_CHARS} characters")
    groups = next((claims[name] for name in _GROUP_CLAIMS if name in claims), ())
    words = {name: value for name, value in claims.items() if isinstance(value, str)}
    return Shown(
        method=Method.TOKEN,
        issuer=issuer.url,
        subject=subject,
        readable=next(words[name] for name in _READABLE_CLAIMS if words.get(name)),
        expire_time=expire_time,
        groups=tuple(issuer.group_prefix + group for group in _texts("groups", groups)),
        scopes=frozenset(_texts("scope", claims.get("scope", ()))),
        claims=words,
    )


def _texts(name: str, value: object) -> list[str]:
    """Reads a list of texts, or one text separated by spaces."""
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    raise _malformed(f"{name!r} is neither a text nor a list of texts")


def _malformed(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "TOKEN_MALFORMED", f"the token cannot be read: {why[:300]}; get a new one"
    )
