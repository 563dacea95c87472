"""A pilot's bearer token: kept in memory, read again where its file stays, removed where it may not.

Payloads under the pilot's own account could read the file. So it goes once the pilot is registered,
unless whoever started the pilot wants to keep it, and with it its renewals.
"""

from __future__ import annotations

from pathlib import Path

from pandawn_client.credentials import Credentials
from pandawn_client.errors import CredentialError
from pandawn_client.signing import Identity
from pandawn_pilot.logs import Log


class TokenKeeper:
    """Looks after the token of an identity."""

    def __init__(
        self, identity: Identity, credentials: Credentials, log: Log, *, keep_file: bool
    ) -> None:
        self._identity = identity
        self._token = credentials.token
        self._path = None if self._token is None else self._token.path
        self._key_file = credentials.key_file
        self._keep_file = keep_file
        self._log = log
        self._read = _stamp(self._path)

    def refresh(self) -> None:
        """Reads the file again if it has changed: batch systems renew tokens in place."""
        stamp = _stamp(self._path)
        if self._token is None or stamp is None or stamp == self._read:
            return
        try:
            self._token.read_again()
        except CredentialError as error:
            self._log.warning("going on with the token that was read before: %s", error)
            return
        self._identity.token = self._token.text
        self._read = stamp
        self._log.info("the token was read again from %s", self._path)

    def hide_from_payloads(self, *, same_account: bool) -> None:
        """Leaves no file behind that payloads could read a credential from. Raises CredentialError."""
        if not same_account:
            return
        if self._key_file is not None:
            self._log.warning(
                "payloads run under the pilot's account and can read the key in %s; a pilot that runs"
                " as root, or a token, keeps its credentials from them",
                self._key_file,
            )
        if self._path is None:
            return
        if self._keep_file:
            self._log.warning("payloads can read the token in %s, which is kept", self._path)
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise CredentialError(
                "CREDENTIAL_EXPOSED",
                f"payloads could read the token in {self._path}, which cannot be removed"
                f" ({error.strerror}); if that is meant, say --keep-token-file",
            ) from error
        self._log.info(
            "removed %s: the token is in memory now, out of reach of payloads", self._path
        )
        self._path = None


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
