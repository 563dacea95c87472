"""Callers with a client certificate: identifies them and checks for revocation.

TLS has verified the chain (gRPC's for plain certificates, the front's where proxies are accepted), and that the
client holds the key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from cryptography import x509

from pandawn_server.domain.access.admission import Admission, Shown
from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.wire.auth.api import Evidence
from pandawn_server.wire.auth.names import common_name, shown_name
from pandawn_server.wire.auth.proxies import holder_of
from pandawn_server.wire.auth.revocation import NOTHING_REVOKED, Revocations, certificate_id

MAX_CHAIN = 30
"""Maximum number of certificates that a caller may show; a proxy of a proxy under two intermediates has six."""


class X509Authenticator:
    """Reads the certificates of a verified client."""

    name = Method.X509.value
    expects = "a client certificate that its authorities vouch for"

    def __init__(
        self,
        admission: Callable[[], Admission],
        revocations: Callable[[], Revocations] = lambda: NOTHING_REVOKED,
    ) -> None:
        """Both functions are called each time, because their results change while the server runs."""
        self._admission = admission
        self._revocations = revocations

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        """See `Authenticator`. Raises also `ForbiddenError` when no rule admits the holder."""
        if not evidence.certificates:
            return None
        return self._admission().admit(self._shown(evidence.certificates, now))

    def _shown(self, ders: Sequence[bytes], now: datetime) -> Shown:
        if len(ders) > MAX_CHAIN:
            raise UnauthenticatedError(
                "CERTIFICATE_INVALID", f"the client shows more than {MAX_CHAIN} certificates"
            )
        try:
            chain = [x509.load_der_x509_certificate(der) for der in ders]
            holder = holder_of(chain)
            expire_time = min(certificate.not_valid_after_utc for certificate in chain)
            hosts = _hosts(holder.certificate)
        except (ValueError, x509.DuplicateExtension) as error:
            raise UnauthenticatedError(
                "CERTIFICATE_INVALID", f"the client's certificate cannot be read: {error}"
            ) from None
        # TLS checked this when the connection was made, which may be long ago.
        if expire_time <= now:
            raise UnauthenticatedError(
                "CERTIFICATE_EXPIRED",
                f"the certificate of {shown_name(chain[0].subject)!r}, or one above it, was valid until "
                f"{expire_time:%Y-%m-%d %H:%M:%S} UTC; get a new one",
            )
        self._revocations().check(chain, now)
        name = holder.certificate.subject
        # Host certificates may have no subject, only DNS names.
        subject = shown_name(name) or "".join(f"/DNS={host}" for host in sorted(hosts))
        if not subject:
            raise UnauthenticatedError(
                "CERTIFICATE_INVALID", "the client's certificate names nobody: no subject, no host"
            )
        return Shown(
            method=Method.X509,
            issuer=shown_name(holder.certificate.issuer),
            subject=subject,
            readable=common_name(name) or "".join(hosts[:1]),
            expire_time=expire_time,
            # A proxy shows that the host trusted its holder; it does not make the holder the host.
            hosts=() if holder.proxies else hosts,
            limited=holder.limited,
            certificates=tuple(map(certificate_id, chain)),
        )


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in found.value.get_values_for_type(x509.DNSName))
