"""RFC 3820 proxies: finds the holder behind a chain of proxies, and what was delegated.

OpenSSL has already verified the chain: signatures, dates, and that each proxy was issued by the certificate above
it. This module checks what it leaves open: that the certificate is clearly marked as a proxy, that names and path
lengths agree, and the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier

from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.wire.auth.names import shown_name

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
"""The extension that makes a certificate a proxy (RFC 3820 section 3.8)."""

INHERIT_ALL = ObjectIdentifier("1.3.6.1.5.5.7.21.1")
"""Policy language: the proxy may do whatever its issuer may."""

LIMITED = ObjectIdentifier("1.3.6.1.4.1.3536.1.1.1.9")
"""Policy language of Globus: as above, but the proxy may not start work."""

MAX_PROXIES = 20
"""Maximum length of a chain of delegations; real ones have two or three."""

_LEGACY_INFO = ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
"""The extension that Globus used before the RFC."""


@asn1.sequence
class _ProxyPolicy:
    language: x509.ObjectIdentifier
    policy: bytes | None


@asn1.sequence
class _ProxyCertInfo:
    path_length: int | None
    policy: _ProxyPolicy


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the key: the certificate of the person or host, and how it was delegated."""

    certificate: x509.Certificate
    proxies: int
    limited: bool


def holder_of(chain: Sequence[x509.Certificate]) -> Holder:
    """The holder of a verified chain, leaf first.

    Raises `UnauthenticatedError` (PROXY_INVALID) for an invalid proxy.
    """
    limited = False
    for depth, certificate in enumerate(chain):
        info = _info(certificate)
        if info is None:
            if depth and _is_authority(certificate):
                raise _invalid(
                    chain[depth - 1], "its issuer is an authority, not a person or a host"
                )
            if any(_info(above) is not None for above in chain[depth + 1 :]):
                raise _invalid(
                    certificate, "it was issued by a proxy, which may issue only proxies"
                )
            return Holder(certificate, depth, limited)
        if depth >= MAX_PROXIES:
            raise _invalid(certificate, f"there are more than {MAX_PROXIES} proxies in its chain")
        if depth + 1 == len(chain):
            raise _invalid(certificate, "the client did not send the certificate that issued it")
        _check(certificate, chain[depth + 1])
        if info.path_length is not None and depth > info.path_length:
            raise _invalid(
                certificate, f"it allows {info.path_length} proxies below itself but has {depth}"
            )
        limited |= _is_limited(certificate, info)
    raise UnauthenticatedError("PROXY_INVALID", "the client sent no certificate")


def _is_limited(certificate: x509.Certificate, info: _ProxyCertInfo) -> bool:
    language = info.policy.language
    if info.policy.policy is not None and language in {INHERIT_ALL, LIMITED}:
        raise _invalid(certificate, "its policy language allows no policy, but it has one")
    if language == INHERIT_ALL:
        return False
    if language == LIMITED:
        return True
    # RFC 3820: a policy that is not understood must not be ignored. That includes `independent`, which delegates
    # nothing.
    raise _invalid(certificate, f"its policy language {language.dotted_string} is not understood")


def _check(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    above, below = issuer.subject, certificate.subject
    if certificate.issuer != above:
        raise _invalid(certificate, f"it names the issuer {shown_name(certificate.issuer)!r}")
    if below.rdns[:-1] != above.rdns or [a.oid for a in below.rdns[-1]] != [NameOID.COMMON_NAME]:
        raise _invalid(certificate, "its name is not its issuer's name plus one CN")
    if _is_authority(certificate):
        raise _invalid(certificate, "it claims to be an authority")


def _info(certificate: x509.Certificate) -> _ProxyCertInfo | None:
    """The extension that makes it a proxy; None for any other certificate."""
    try:
        extensions = certificate.extensions
    except ValueError:
        raise _invalid(certificate, "its extensions cannot be read") from None
    for extension in extensions:
        if extension.oid == _LEGACY_INFO:
            raise _invalid(certificate, "it is older than RFC 3820; make one with -rfc")
        if extension.oid == PROXY_CERT_INFO:
            if not extension.critical:
                raise _invalid(certificate, "its proxyCertInfo is not critical")
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            try:
                return asn1.decode_der(_ProxyCertInfo, extension.value.value)
            except ValueError:
                raise _invalid(certificate, "its proxyCertInfo cannot be read") from None
    return None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
    except x509.ExtensionNotFound:
        return False
    return isinstance(found.value, x509.BasicConstraints) and found.value.ca


def _invalid(certificate: x509.Certificate, why: str) -> UnauthenticatedError:
    name = shown_name(certificate.subject)[:300]
    return UnauthenticatedError(
        "PROXY_INVALID",
        f"the proxy {name!r} cannot be accepted: {why}; make a new one (voms-proxy-init -rfc)",
        metadata={"subject": name},
    )
