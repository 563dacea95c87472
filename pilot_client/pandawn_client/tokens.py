"""Finds and reads bearer tokens.

As in the WLCG Bearer Token Discovery (version 1.0): $BEARER_TOKEN, the file in $BEARER_TOKEN_FILE,
bt_u<uid> in $XDG_RUNTIME_DIR, and in /tmp.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pandawn_client.errors import CredentialError
from pandawn_client.secret_files import read_secret

TOKEN_VARIABLE = "BEARER_TOKEN"  # noqa: S105 (the name of a variable)
FILE_VARIABLE = "BEARER_TOKEN_FILE"

_LAST_PLACE = "/tmp"  # noqa: S108 (so says the discovery; what is read there must be the user's own)

_WHAT = "the token file"
_SHAPE = re.compile(rb"[\x21-\x7e]+")


class Token:
    """A bearer token: `text` as last read, its `source` for messages, and the `path` of its file, if any."""

    def __init__(
        self,
        text: str,
        source: str,
        path: Path | None = None,
        *,
        from_shared_place: bool = False,
        for_group: bool = False,
    ) -> None:
        self.text = text
        self.source = source
        self.path = path
        self._from_shared_place = from_shared_place
        self._for_group = for_group

    def fresh(self) -> str:
        """The token read again from its file; the last one if that fails."""
        # During a renewal the file may be missing or incomplete.
        with suppress(CredentialError):
            self.read_again()
        return self.text

    def read_again(self) -> None:
        """Reads the token from its file. Raises CredentialError, and keeps the old one then."""
        if self.path is not None:
            self.text = read_token(
                self.path, from_shared_place=self._from_shared_place, for_group=self._for_group
            )


def token_in_file(
    path: Path, source: str, *, from_shared_place: bool = False, for_group: bool = False
) -> Token:
    """The token in a private file. Raises CredentialError."""
    text = read_token(path, from_shared_place=from_shared_place, for_group=for_group)
    return Token(text, source, path, from_shared_place=from_shared_place, for_group=for_group)


def token_in_environment(environ: Mapping[str, str], *, for_group: bool = False) -> Token | None:
    """The token in the environment, or in the file that it names, if any. Raises CredentialError."""
    if environ.get(TOKEN_VARIABLE):
        source = f"the variable {TOKEN_VARIABLE}"
        return Token(check_token(environ[TOKEN_VARIABLE].encode(), source), source)
    if environ.get(FILE_VARIABLE):
        path = environ[FILE_VARIABLE]
        source = f"{path}, from the variable {FILE_VARIABLE}"
        return token_in_file(Path(path).absolute(), source, for_group=for_group)
    return None


def token_in_shared_place(environ: Mapping[str, str]) -> Token | None:
    """The token in the places that all programs of the user share, if any. Raises CredentialError."""
    for directory in (environ.get("XDG_RUNTIME_DIR"), _LAST_PLACE):
        if directory:
            found = Path(directory, f"bt_u{os.geteuid()}")
            if found.exists():
                return token_in_file(found, str(found), from_shared_place=True)
    return None


def read_token(path: Path, *, from_shared_place: bool = False, for_group: bool = False) -> str:
    """Returns the token in a file. Raises CredentialError if there is none, or if others can read it."""
    content = read_secret(path, _WHAT, from_shared_place=from_shared_place, for_group=for_group)
    return check_token(content, f"{_WHAT} {path}")


def check_token(content: bytes, where: str) -> str:
    """Returns the token without surrounding white space.

    Raises CredentialError unless it is one word of printable characters, as a header requires.
    """
    token = content.strip()
    if _SHAPE.fullmatch(token) is None:
        raise CredentialError(
            "NO_TOKEN",
            f"{where} contains no token",
            details=["a token is one line of printable characters"],
        )
    return token.decode("ascii")
