"""Bearer tokens: where they are found, where `pandawn login` keeps them, and what they say.

They are found as the WLCG Bearer Token Discovery has it (version 1.0): $BEARER_TOKEN, the file that
$BEARER_TOKEN_FILE names, bt_u<uid> in $XDG_RUNTIME_DIR, and in /tmp. Before these: an option, the
configuration file, and what `pandawn login` kept for this very server.
"""

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pandawn_tools.cli.errors import CliError, usage_error
from pandawn_tools.cli.secrets_on_disk import read_secret, write_secret
from pandawn_tools.cli.settings import Address, config_path

TOKEN_VARIABLE = "BEARER_TOKEN"  # noqa: S105 (the name of a variable)
FILE_VARIABLE = "BEARER_TOKEN_FILE"

_LAST_PLACE = "/tmp"  # noqa: S108 (so says the discovery; what is read there must be the user's own)

_WHAT = "the token file"
_SHAPE = re.compile(rb"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A token and where it was found."""

    read: Callable[[], str]
    source: str

    @property
    def text(self) -> str:
        """The token as it is now: whoever renews it in its file is heard by a long command too."""
        return self.read()


def find_token(
    address: Address,
    option: str | None,
    configured: str | None,
    environ: Mapping[str, str],
    *,
    over_tls: bool,
) -> FoundToken | None:
    """Returns the token to show to a server; None where there is none.

    What is merely around is for servers that TLS has verified: at a port of this machine any of its users
    may listen. One that was named may get what the environment holds.

    Raises:
        CliError: A file that was named cannot be used.
    """
    for path, source in ((option, "--token-file"), (configured, str(config_path(environ)))):
        if path is not None:
            return _in_file(Path(path).expanduser(), f"{path}, from {source}")
    found = _in_environment(environ) if over_tls or not address.is_default else None
    if found is not None:
        return found
    kept = kept_path(address, environ)
    if kept.exists():
        return _in_file(kept, f"{kept}, where `pandawn login` put it")
    return _in_shared_place(environ) if over_tls else None


def find_ambient_token(environ: Mapping[str, str]) -> FoundToken | None:
    """Returns the token that is around for any server; None where there is none.

    Raises:
        CliError: A file that should hold it cannot be used.
    """
    return _in_environment(environ) or _in_shared_place(environ)


def _in_environment(environ: Mapping[str, str]) -> FoundToken | None:
    if environ.get(TOKEN_VARIABLE):
        token = check_token(environ[TOKEN_VARIABLE].encode(), f"the variable {TOKEN_VARIABLE}")
        return FoundToken(lambda: token, f"the variable {TOKEN_VARIABLE}")
    if environ.get(FILE_VARIABLE):
        path = environ[FILE_VARIABLE]
        return _in_file(Path(path), f"{path}, from the variable {FILE_VARIABLE}")
    return None


def _in_shared_place(environ: Mapping[str, str]) -> FoundToken | None:
    for directory in (environ.get("XDG_RUNTIME_DIR"), _LAST_PLACE):
        if directory:
            found = Path(directory, f"bt_u{os.geteuid()}")
            if found.exists():
                return _in_file(found, str(found), from_shared_place=True)
    return None


def kept_path(address: Address, environ: Mapping[str, str]) -> Path:
    """Returns where `pandawn login` keeps the token for a server: one for each, for no other to see."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", address.target)
    return config_path(environ).parent / "tokens" / name


def keep_token(address: Address, token: str, environ: Mapping[str, str]) -> Path:
    """Keeps a token for a server, and returns where.

    Raises:
        CliError: It cannot be kept from others.
    """
    path = kept_path(address, environ)
    write_secret(path, token.encode() + b"\n", "the token")
    return path


def read_token(path: Path, *, from_shared_place: bool = False) -> str:
    """Returns the token in a file.

    Raises:
        CliError: There is none, or others can read it.
    """
    content = read_secret(path, _WHAT, from_shared_place=from_shared_place)
    return check_token(content, f"{_WHAT} {path}")


def check_token(content: bytes, where: str) -> str:
    """Returns the token without the white space around it.

    Raises:
        CliError: It is none: what is not one word of printable characters cannot be sent.
    """
    token = content.strip()
    if _SHAPE.fullmatch(token) is None:
        raise usage_error(
            "NO_TOKEN",
            f"{where} holds no token",
            details=["a token is one line of printable characters"],
        )
    return token.decode("ascii")


def _in_file(path: Path, source: str, *, from_shared_place: bool = False) -> FoundToken:
    last = read_token(path, from_shared_place=from_shared_place)

    def read() -> str:
        nonlocal last
        # Between two renewals the file may be missing, or half written.
        with suppress(CliError):
            last = read_token(path, from_shared_place=from_shared_place)
        return last

    return FoundToken(read, source)


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
