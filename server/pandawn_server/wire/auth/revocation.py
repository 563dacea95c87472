"""Lists of revoked certificates: what the authorities have taken back before its time.

What a list is in truth stands in critical
extensions (RFC 5280, 5.2): a delta names the changes since another list, a partitioned one some kinds of
certificates, an indirect one those of other authorities. Whoever takes such a list for the whole one lets in whom
the whole one keeps out. Lists for users and for authorities count for these; others are refused, and said to be,
and an authority that has no other kind of list admits nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.wire.auth.names import shown_name

_HARMLESS = (x509.AuthorityKeyIdentifier, x509.CRLNumber)
"""Extensions of a list that say nothing of what it speaks of."""

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class Kind(Enum):
    """Which of the certificates of its authority a list speaks of."""

    ALL = "all"
    USERS = "users"
    AUTHORITIES = "authorities"


@dataclass(frozen=True, slots=True)
class Revocations:
    """The newest list of each kind of each authority that has one; the others' certificates are taken as good.

    `refused` are authorities whose lists are there and cannot be used.
    """

    lists: Mapping[x509.Name, Mapping[Kind, x509.CertificateRevocationList]] = field(
        default_factory=dict
    )
    refused: frozenset[x509.Name] = frozenset()

    def check(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Raises `UnauthenticatedError` for a revoked certificate in the chain, or no list that tells."""
        for certificate in chain:
            issuer, name = certificate.issuer, shown_name(certificate.subject)
            self._check(issuer, certificate.serial_number, name, now)
            kinds = self.lists.get(issuer, {}).keys()
            wanted = Kind.AUTHORITIES if _is_authority(certificate) else Kind.USERS
            if certificate.subject == issuer:
                continue  # the root: whoever trusts it does not ask it about itself
            # Without a list nobody asked; with one for others, somebody did, and this one may be revoked.
            asked = bool(kinds) or issuer in self.refused
            if asked and not kinds & {Kind.ALL, wanted}:
                raise UnauthenticatedError(
                    "REVOCATION_LIST_EXPIRED",
                    f"the lists of certificates revoked by {shown_name(issuer)!r} say nothing of {name!r}; "
                    "whoever runs the server must fetch the full one",
                )

    def check_ids(self, ids: Iterable[tuple[str, str]], name: str, now: datetime) -> None:
        """The same for certificates of `name` of which only `certificate_id` is known."""
        by_issuer = {issuer.public_bytes().hex(): issuer for issuer in self.lists}
        for issuer, serial in ids:
            found = by_issuer.get(issuer)
            if found is not None:
                self._check(found, int(serial, 16), name, now)

    def _check(self, issuer: x509.Name, serial: int, name: str, now: datetime) -> None:
        # Each of them may be asked of any certificate: a number is given once.
        for revoked in self.lists.get(issuer, {}).values():
            if revoked.get_revoked_certificate_by_serial_number(serial):
                raise UnauthenticatedError(
                    "CERTIFICATE_REVOKED",
                    f"the authority {shown_name(issuer)!r} has revoked the certificate of "
                    f"{name!r}; get a new one",
                    metadata={"subject": name},
                )
            until = revoked.next_update_utc
            # What was revoked since is not known, and the site asked for it to be.
            if until is not None and until <= now:
                raise UnauthenticatedError(
                    "REVOCATION_LIST_EXPIRED",
                    f"the list of certificates revoked by {shown_name(issuer)!r} was good "
                    f"until {until:%Y-%m-%d %H:%M} UTC; whoever runs the server must renew it (fetch-crl)",
                )


NOTHING_REVOKED = Revocations()


def certificate_id(certificate: x509.Certificate) -> tuple[str, str]:
    """What a list knows a certificate by: its issuer's name in DER and its number, in hexadecimal digits."""
    return certificate.issuer.public_bytes().hex(), f"{certificate.serial_number:x}"


def read_revocations(
    pems: Iterable[bytes], authorities: Sequence[x509.Certificate]
) -> tuple[Revocations, list[str]]:
    """The lists in these files that one of the authorities signed, and what was wrong with the others."""
    lists: dict[x509.Name, dict[Kind, x509.CertificateRevocationList]] = {}
    refused: set[x509.Name] = set()
    problems: list[str] = []
    for pem in pems:
        for block in _PEM.findall(pem):
            try:
                found = x509.load_pem_x509_crl(block)
                kind = _kind(found)
            except ValueError as error:
                problems.append(f"a list of revoked certificates cannot be read: {error}")
                continue
            name = shown_name(found.issuer)
            if not _is_signed(found, authorities):
                problems.append(f"no authority here signed the list of {name!r}")
            elif isinstance(kind, str):
                problems.append(f"the list of {name!r} {kind}; the full list is wanted")
                refused.add(found.issuer)
            else:
                known = lists.setdefault(found.issuer, {})
                if kind not in known or known[kind].last_update_utc < found.last_update_utc:
                    known[kind] = found
    return Revocations(lists, frozenset(refused)), problems


def _kind(found: x509.CertificateRevocationList) -> Kind | str:
    """What a list speaks of, or why it cannot be used. Raises `ValueError`."""
    kind = Kind.ALL
    for extension in found.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return f"is a delta: it has the changes since list {value.crl_number} only"
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl:
                return "is indirect: it speaks for other authorities"
            if value.only_some_reasons or value.only_contains_attribute_certs:
                return "holds some reasons or attribute certificates only"
            if value.only_contains_user_certs:
                kind = Kind.USERS
            elif value.only_contains_ca_certs:
                kind = Kind.AUTHORITIES
        elif extension.critical and not isinstance(value, _HARMLESS):
            return (
                f"has the critical extension {extension.oid.dotted_string}, which is not understood"
            )
    return kind


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


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
