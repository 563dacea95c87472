"""A pilot's bearer token: held in memory, and read again from its file if that stays.

Payloads under the pilot's account could read the file. So the pilot removes it after registering,
unless --keep-token-file keeps it, and with it renewals by the batch system.
"""

from __future__ import annotations

from pathlib import Path

from pandawn_client.credentials import Credentials
from pandawn_client.errors import CredentialError
from pandawn_client.signing import Identity
from pandawn_pilot.logs import Log


class TokenKeeper:
    """Refreshes the token of an identity, and removes its file."""

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
            self._log.warning("cannot read the renewed token, keeping the previous one: %s", error)
            return
        self._identity.token = self._token.text
        self._read = stamp
        self._log.info("token refreshed from %s", self._path)

    def hide_from_payloads(self, *, same_account: bool) -> None:
        """Removes the token file if payloads could read it. Raises CredentialError."""
        if not same_account:
            return
        if self._key_file is not None:
            self._log.warning(
                "payloads run under the pilot's account and can read the key in %s; run the pilot as"
                " root or use a token to protect it",
                self._key_file,
            )
        if self._path is None:
            return
        if self._keep_file:
            self._log.warning(
                "payloads can read the token in %s, kept because of --keep-token-file", self._path
            )
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise CredentialError(
                "CREDENTIAL_EXPOSED",
                f"payloads could read the token in {self._path}, which cannot be removed"
                f" ({error.strerror}); to accept that, use --keep-token-file",
            ) from error
        self._log.info(
            "removed %s: payloads could read it; the pilot has the token in memory", self._path
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
