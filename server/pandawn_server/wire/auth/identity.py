"""What certificates and tokens are checked against, kept up to date while the server runs.

Separate threads read the rules, read the revocation lists, and fetch from each issuer. Calls never wait for them, and
they do not wait for each other, because a disk or a web server may hang. Each kind of data is replaced as a whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from pandawn_server.admission_config import (
    NOBODY,
    AdmissionFile,
    AdmissionFileError,
    IssuerTable,
    read_admission_file,
)
from pandawn_server.domain.access.admission import Admission, Shown
from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.access.vouching import admit_without_rules
from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.logs import Log
from pandawn_server.wire.auth.keys import KeyRing
from pandawn_server.wire.auth.revocation import NOTHING_REVOKED, Revocations, read_revocations
from pandawn_server.wire.auth.tls_files import TlsFilesError, read_authorities
from pandawn_server.wire.auth.tokens import TokenAuthenticator
from pandawn_server.wire.auth.x509 import X509Authenticator

_log: Log = structlog.get_logger(__name__)

REFRESH_INTERVAL_S = 2.0
"""Interval between checks of the files, in seconds."""

_Mark = tuple[tuple[str, int, int], ...]


class Identity:
    """The rules, issuers, keys and revocations of a server."""

    def __init__(
        self,
        *,
        admission_file: Path | None,
        keys_directory: Path,
        client_ca: Path | None = None,
        revocations: Path | None = None,
    ) -> None:
        """Reads the files. `revocations` is a file, or a directory with `.r0` and `.crl` files.

        Raises `AdmissionFileError`, and `TlsFilesError` if `revocations` holds no usable list.
        """
        self._admission_file = admission_file
        self._client_ca = client_ca
        self._revocations_path = revocations
        self._admission_mark: _Mark = _marks(admission_file)
        self._revocations_mark: _Mark | None = None
        self._file: AdmissionFile = (
            NOBODY if admission_file is None else read_admission_file(admission_file)
        )
        self._revocations = NOTHING_REVOKED
        self._changes = 0
        self._counting = threading.Lock()
        self.is_ready = threading.Event()
        self._keys = KeyRing(keys_directory)
        self._keys.watch(self._file.issuers.values())
        self.x509 = X509Authenticator(self.admission, lambda: self._revocations)
        self.token = TokenAuthenticator(self.admission, self.issuers, self._keys)
        self.refresh_local()
        if revocations is not None and not self._revocations.lists:
            raise TlsFilesError(
                f"there is no usable revocation list in {revocations}; see the log for the reason"
            )

    def admission(self) -> Admission:
        """The current rules."""
        return self._file.admission

    def issuers(self) -> Mapping[str, IssuerTable]:
        """The currently trusted token issuers, by name."""
        return self._file.issuers

    def revocations(self) -> Revocations:
        """The current revocations."""
        return self._revocations

    def judge(self, shown: Shown, now: datetime) -> Principal:
        """Checks an earlier credential again by current rules and revocations, but ignores its expiry.

        Raises `UnauthenticatedError` and `ForbiddenError`.
        """
        if shown.method is Method.X509:
            self._revocations.check_ids(shown.certificates, shown.subject, now)
        elif shown.method is Method.TOKEN:
            if shown.issuer not in self._file.issuers:
                raise UnauthenticatedError(
                    "UNKNOWN_ISSUER", f"the issuer {shown.issuer!r} is no longer trusted here"
                )
        else:
            return admit_without_rules(shown, now)
        return self.admission().admit(shown)

    def outlives(self, shown: Shown) -> timedelta:
        """How long sessions may be renewed after the credential has expired."""
        return self.admission().outlives(shown)

    def changes(self) -> int:
        """Counts changes of rules, issuers and revocations; after a change, earlier results no longer hold."""
        return self._changes

    def start(self) -> None:
        """Starts the updates; sets `is_ready` after the first.

        They run in daemon threads: stopping the server must not wait for an issuer that hangs.
        """
        for work in (self._refresh_admission, self._refresh_revocations, self._look_ahead):
            threading.Thread(
                target=self._keep_up, args=(work,), name="identity", daemon=True
            ).start()

    def _keep_up(self, work: Callable[[], None]) -> None:
        while True:
            try:
                work()
            except Exception:  # noqa: BLE001 (the loop must go on)
                _log.exception("rules, keys or revocations cannot be updated")
            time.sleep(REFRESH_INTERVAL_S)

    def _look_ahead(self) -> None:
        fetching = self._keys.look_ahead(datetime.now(UTC))
        if not self.is_ready.is_set():
            threading.Thread(target=self._tell_when_ready, args=(fetching,), daemon=True).start()

    def _tell_when_ready(self, fetching: Sequence[threading.Thread]) -> None:
        for thread in fetching:
            thread.join()
        self.is_ready.set()

    def refresh(self) -> None:
        """Reads changed files and fetches what is due; may take as long as an issuer takes to answer."""
        self.refresh_local()
        self._keys.refresh(datetime.now(UTC))

    def refresh_local(self) -> None:
        """Reads changed files."""
        self._refresh_admission()
        self._refresh_revocations()

    def _count_change(self) -> None:
        with self._counting:
            self._changes += 1

    def _refresh_admission(self) -> None:
        if self._admission_file is None:
            return
        mark = _marks(self._admission_file)
        if mark == self._admission_mark:
            return
        self._admission_mark = mark
        try:
            read = read_admission_file(self._admission_file)
        except AdmissionFileError as error:
            # Half a file could admit callers that the other half excludes.
            _log.error(
                "the changed admission file is not used; the previous one stays in force",
                reason=str(error),
            )
            return
        self._file = read
        self._count_change()
        self._keys.watch(read.issuers.values())
        _log.info("admission file read again", file=str(self._admission_file))

    def _refresh_revocations(self) -> None:
        if self._revocations_path is None:
            return
        files = _list_files(self._revocations_path)
        mark = tuple(entry for path in (*files, self._client_ca) for entry in _marks(path))
        if mark == self._revocations_mark:
            return
        self._revocations_mark = mark
        try:
            found, problems = read_revocations(
                (file.read_bytes() for file in files), read_authorities(self._client_ca)
            )
        except (OSError, TlsFilesError) as error:
            _log.error("the revocation lists cannot be read", reason=str(error))
            return
        for problem in problems:
            _log.warning("a revocation list is not used", reason=problem)
        if found.lists:
            self._revocations = found
            self._count_change()
        else:
            _log.error("no revocation list can be used; the previous ones stay in force")


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file for file in path.iterdir() if file.suffix == ".crl" or file.name[-3:-1] == ".r"
    )


def _marks(path: Path | None) -> _Mark:
    """The state of a file, to detect changes."""
    if path is None:
        return ()
    try:
        status = path.stat()
    except OSError:
        return ((str(path), 0, 0),)
    return ((str(path), status.st_mtime_ns, status.st_ino),)
