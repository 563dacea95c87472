"""Revocation lists: the certificates that authorities have revoked before their time.

Critical extensions say what a list covers (RFC 5280, 5.2). A delta has only the changes since another list, a
partitioned list only some kinds of certificates, an indirect one those of other authorities. Taking such a list for
the full one would admit revoked certificates. Lists for users or for authorities count for these; others are rejected
and logged, and an authority that has no other list admits nobody.
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
"""Extensions of a list that do not limit what it covers."""

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class Kind(Enum):
    """Which certificates of its authority a list covers."""

    ALL = "all"
    USERS = "users"
    AUTHORITIES = "authorities"


@dataclass(frozen=True, slots=True)
class Revocations:
    """The newest list of each kind, by authority; certificates of authorities without a list count as good.

    `refused` are the authorities whose lists exist but cannot be used.
    """

    lists: Mapping[x509.Name, Mapping[Kind, x509.CertificateRevocationList]] = field(
        default_factory=dict
    )
    refused: frozenset[x509.Name] = frozenset()

    def check(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Raises `UnauthenticatedError` if a certificate of the chain is revoked, or its list does not tell."""
        for certificate in chain:
            issuer, name = certificate.issuer, shown_name(certificate.subject)
            self._check(issuer, certificate.serial_number, name, now)
            kinds = self.lists.get(issuer, {}).keys()
            wanted = Kind.AUTHORITIES if _is_authority(certificate) else Kind.USERS
            if certificate.subject == issuer:
                continue  # a root cannot revoke itself
            # Without any list the site wants no check; if there is one for others, this certificate may be revoked.
            asked = bool(kinds) or issuer in self.refused
            if asked and not kinds & {Kind.ALL, wanted}:
                raise UnauthenticatedError(
                    "REVOCATION_LIST_EXPIRED",
                    f"the revocation lists of {shown_name(issuer)!r} do not cover {name!r}; "
                    "the operator of the server must fetch the full list",
                )

    def check_ids(self, ids: Iterable[tuple[str, str]], name: str, now: datetime) -> None:
        """The same for certificates of `name` of which only the `certificate_id` is known."""
        by_issuer = {issuer.public_bytes().hex(): issuer for issuer in self.lists}
        for issuer, serial in ids:
            found = by_issuer.get(issuer)
            if found is not None:
                self._check(found, int(serial, 16), name, now)

    def _check(self, issuer: x509.Name, serial: int, name: str, now: datetime) -> None:
        # Checks every list, whatever its kind: an authority uses each serial number once.
        for revoked in self.lists.get(issuer, {}).values():
            if revoked.get_revoked_certificate_by_serial_number(serial):
                raise UnauthenticatedError(
                    "CERTIFICATE_REVOKED",
                    f"the authority {shown_name(issuer)!r} has revoked the certificate of "
                    f"{name!r}; get a new one",
                    metadata={"subject": name},
                )
            until = revoked.next_update_utc
            # Later revocations are unknown, and the site wants them checked.
            if until is not None and until <= now:
                raise UnauthenticatedError(
                    "REVOCATION_LIST_EXPIRED",
                    f"the revocation list of {shown_name(issuer)!r} was valid until "
                    f"{until:%Y-%m-%d %H:%M} UTC; the operator of the server must renew it (fetch-crl)",
                )


NOTHING_REVOKED = Revocations()


def certificate_id(certificate: x509.Certificate) -> tuple[str, str]:
    """How a list identifies a certificate: issuer name in DER and serial number, both in hexadecimal."""
    return certificate.issuer.public_bytes().hex(), f"{certificate.serial_number:x}"


def read_revocations(
    pems: Iterable[bytes], authorities: Sequence[x509.Certificate]
) -> tuple[Revocations, list[str]]:
    """The lists that one of the authorities signed, and the problems with the others."""
    lists: dict[x509.Name, dict[Kind, x509.CertificateRevocationList]] = {}
    refused: set[x509.Name] = set()
    problems: list[str] = []
    for pem in pems:
        for block in _PEM.findall(pem):
            try:
                found = x509.load_pem_x509_crl(block)
                kind = _kind(found)
            except ValueError as error:
                problems.append(f"a revocation list cannot be read: {error}")
                continue
            name = shown_name(found.issuer)
            if not _is_signed(found, authorities):
                problems.append(f"no authority here signed the list of {name!r}")
            elif isinstance(kind, str):
                problems.append(f"the list of {name!r} {kind}; the full list is needed")
                refused.add(found.issuer)
            else:
                known = lists.setdefault(found.issuer, {})
                if kind not in known or known[kind].last_update_utc < found.last_update_utc:
                    known[kind] = found
    return Revocations(lists, frozenset(refused)), problems


def _kind(found: x509.CertificateRevocationList) -> Kind | str:
    """What a list covers, or why it cannot be used. Raises `ValueError`."""
    kind = Kind.ALL
    for extension in found.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return f"is a delta: it has only the changes since list {value.crl_number}"
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl:
                return "is indirect: it covers other authorities"
            if value.only_some_reasons or value.only_contains_attribute_certs:
                return "covers only some reasons or attribute certificates"
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
