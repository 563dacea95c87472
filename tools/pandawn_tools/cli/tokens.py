"""The tokens of `pandawn login`: where they are kept, in what order tokens are looked for, what they say."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pandawn_client.secret_files import write_secret
from pandawn_client.tokens import (
    Token,
    token_in_environment,
    token_in_file,
    token_in_shared_place,
)
from pandawn_tools.cli.settings import Address, config_path


def find_token(
    address: Address,
    option: str | None,
    configured: str | None,
    environ: Mapping[str, str],
    *,
    over_tls: bool,
) -> Token | None:
    """Returns the token to show to a server; None where there is none.

    What is merely around is for servers that TLS has verified: at a port of this machine any of its users
    may listen. One that was named may get what the environment holds.

    An option goes before the configuration file, that before the environment, what `pandawn login` kept for
    this very server, and what lies in shared places.

    Raises:
        CredentialError: A file that was named cannot be used.
    """
    for path, source in ((option, "--token-file"), (configured, str(config_path(environ)))):
        if path is not None:
            return token_in_file(Path(path).expanduser(), f"{path}, from {source}")
    found = token_in_environment(environ) if over_tls or not address.is_default else None
    if found is not None:
        return found
    kept = kept_path(address, environ)
    if kept.exists():
        return token_in_file(kept, f"{kept}, where `pandawn login` put it")
    return token_in_shared_place(environ) if over_tls else None


def kept_path(address: Address, environ: Mapping[str, str]) -> Path:
    """Returns where `pandawn login` keeps the token for a server: one for each, for no other to see."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", address.target)
    return config_path(environ).parent / "tokens" / name


def keep_token(address: Address, token: str, environ: Mapping[str, str]) -> Path:
    """Keeps a token for a server, and returns where.

    Raises:
        CredentialError: It cannot be kept from others.
    """
    path = kept_path(address, environ)
    write_secret(path, token.encode() + b"\n", "the token")
    return path


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of itself, for people: nothing here was verified."""

    issuer: str
    subject: str
    audience: Sequence[str]
    scopes: Sequence[str]
    groups: Sequence[str]
    expire_time: datetime | None


def peek(token: str) -> Claims | None:
    """Returns what a token says; None for one that is no JWT, which a server may understand still."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        expires = claims.get("exp")
        return Claims(
            issuer=str(claims.get("iss", "")),
            subject=str(claims.get("sub", "")),
            audience=_texts(claims.get("aud")),
            scopes=_texts(claims.get("scope")),
            groups=_texts(claims.get("wlcg.groups", claims.get("groups"))),
            expire_time=None if expires is None else datetime.fromtimestamp(float(expires), UTC),
        )
    except (
        IndexError,
        AttributeError,
        TypeError,
        ValueError,  # binascii.Error and json's are of this kind
        OverflowError,
        OSError,
        RecursionError,
    ):
        return None


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [str(item) for item in value] if isinstance(value, list) else []
