"""Lists of revoked certificates: what the authorities have taken back before its time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.wire.auth.names import shown_name

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Revocations:
    """The newest list of each authority that has one; the others' certificates are taken as good."""

    lists: Mapping[x509.Name, x509.CertificateRevocationList] = field(default_factory=dict)

    def check(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Raises `UnauthenticatedError` for a revoked certificate in the chain, or a list out of date."""
        for certificate in chain:
            revoked = self.lists.get(certificate.issuer)
            if revoked is None:
                continue
            name = shown_name(certificate.subject)
            if revoked.get_revoked_certificate_by_serial_number(certificate.serial_number):
                raise UnauthenticatedError(
                    "CERTIFICATE_REVOKED",
                    f"the authority {shown_name(certificate.issuer)!r} has revoked the certificate of "
                    f"{name!r}; get a new one",
                    metadata={"subject": name},
                )
            until = revoked.next_update_utc
            # What was revoked since is not known, and the site asked for it to be.
            if until is not None and until <= now:
                raise UnauthenticatedError(
                    "REVOCATION_LIST_EXPIRED",
                    f"the list of certificates revoked by {shown_name(certificate.issuer)!r} was good "
                    f"until {until:%Y-%m-%d %H:%M} UTC; whoever runs the server must renew it (fetch-crl)",
                )


NOTHING_REVOKED = Revocations()


def read_revocations(
    pems: Iterable[bytes], authorities: Sequence[x509.Certificate]
) -> tuple[Revocations, list[str]]:
    """The lists in these files that one of the authorities signed, and what was wrong with the others."""
    lists: dict[x509.Name, x509.CertificateRevocationList] = {}
    problems: list[str] = []
    for pem in pems:
        for block in _PEM.findall(pem):
            try:
                found = x509.load_pem_x509_crl(block)
            except ValueError as error:
                problems.append(f"a list of revoked certificates cannot be read: {error}")
                continue
            if not _is_signed(found, authorities):
                problems.append(
                    f"no authority here signed the list of {shown_name(found.issuer)!r}"
                )
                continue
            known = lists.get(found.issuer)
            if known is None or known.last_update_utc < found.last_update_utc:
                lists[found.issuer] = found
    return Revocations(lists), problems


def _is_signed(
    found: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]
) -> bool:
    for authority in authorities:
        if authority.subject == found.issuer:
            try:
                if found.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]
                    return True
            except (TypeError, UnsupportedAlgorithm):
                continue
    return False
