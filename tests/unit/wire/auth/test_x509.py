"""Verified chains: who is at their end, what was delegated, and what is refused beyond OpenSSL's checks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pandawn_server.domain.access.admission import Admission, Rule
from pandawn_server.domain.access.principals import Method, Principal, Role
from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.wire.auth.api import Evidence
from pandawn_server.wire.auth.revocation import Revocations, read_revocations
from pandawn_server.wire.auth.x509 import X509Authenticator
from tests.fixtures.certificates import DAY, INDEPENDENT, LIMITED, Authority, Credential

JANE = "/DC=org/DC=example/OU=People/CN=Jane Doe"
EVERYBODY = Admission([Rule("all", Method.X509, frozenset({Role.USER}))])


def authenticate(
    credential: Credential,
    *authorities: Authority,
    now: datetime | None = None,
    revocations: Revocations | None = None,
) -> Principal:
    """What the authenticator makes of a chain as a TLS library hands it over."""
    roots = tuple(a.certificate.public_bytes(Encoding.DER) for a in authorities)
    found = X509Authenticator(lambda: EVERYBODY, lambda: revocations or Revocations()).authenticate(
        Evidence("ipv4:192.0.2.1:1", {}, (*credential.chain_der, *roots)), now or datetime.now(UTC)
    )
    assert found is not None
    return found


def refusal(
    credential: Credential,
    *authorities: Authority,
    now: datetime | None = None,
    revocations: Revocations | None = None,
) -> UnauthenticatedError:
    with pytest.raises(UnauthenticatedError) as caught:
        authenticate(credential, *authorities, now=now, revocations=revocations)
    return caught.value


def test_without_a_certificate_there_is_nothing_to_say() -> None:
    authenticator = X509Authenticator(lambda: EVERYBODY)
    assert authenticator.authenticate(Evidence("unix:", {}), datetime.now(UTC)) is None


def test_a_certificate_names_its_holder(authority: Authority) -> None:
    jane = authority.person()
    principal = authenticate(jane, authority)
    assert principal.subject == JANE
    assert not principal.limited
    assert principal.expire_time == jane.certificate.not_valid_after_utc


def test_the_leaf_alone_is_enough(authority: Authority) -> None:
    # What gRPC gives of a chain that it has verified itself.
    assert authenticate(authority.person()).subject == JANE


def test_a_proxy_stands_for_the_person_above_it(authority: Authority) -> None:
    jane = authority.person()
    proxy = jane.proxy(end=datetime.now(UTC) + timedelta(hours=1))
    principal = authenticate(proxy.proxy(), authority)
    assert principal.subject == JANE
    assert principal.name == authenticate(jane, authority).name
    # No longer than the shortest of the chain.
    assert principal.expire_time == proxy.certificate.not_valid_after_utc
    assert not principal.limited


def test_one_limited_proxy_makes_all_below_it_limited(authority: Authority) -> None:
    limited = authority.person().proxy(policy=LIMITED)
    assert authenticate(limited, authority).limited
    assert authenticate(limited.proxy(), authority).limited
    assert authenticate(limited.proxy(policy=LIMITED), authority).limited


def test_a_proxy_of_a_host_is_not_the_host(authority: Authority) -> None:
    host = authority.host("wn1.example.org")
    only_hosts = Admission([Rule("h", Method.X509, frozenset({Role.PILOT}))])
    seen: list[tuple[str, ...]] = []

    class Watching(Admission):
        def admit(self, shown) -> Principal:  # type: ignore[no-untyped-def] # noqa: ANN001
            seen.append(shown.hosts)
            return only_hosts.admit(shown)

    for credential in (host, host.proxy()):
        X509Authenticator(lambda: Watching(())).authenticate(
            Evidence("", {}, credential.chain_der), datetime.now(UTC)
        )
    assert seen == [("wn1.example.org",), ()]


_WRONG: dict[str, tuple[Callable[[Credential], Credential], str]] = {
    "info not critical": (lambda jane: jane.proxy(critical=False), "not critical"),
    "same name": (lambda jane: jane.proxy(common_names=()), "plus one CN"),
    "two more names": (lambda jane: jane.proxy(common_names=("1", "2")), "plus one CN"),
    "independent": (lambda jane: jane.proxy(policy=INDEPENDENT), "not understood"),
    "unknown policy": (lambda jane: jane.proxy(policy="1.2.3.4"), "not understood"),
    "an authority": (lambda jane: jane.proxy(is_ca=True), "claims to be an authority"),
    "no proxies below": (lambda jane: jane.proxy(path_length=0).proxy(), "allows 0 proxies"),
    "one below": (lambda jane: jane.proxy(path_length=1).proxy().proxy(), "allows 1 proxies"),
    "no proxy at the end": (
        lambda jane: jane.proxy().proxy(with_info=False),
        "may issue only proxies",
    ),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_proxy_that_is_not_as_it_should_be_is_refused(authority: Authority, wrong: str) -> None:
    make, said = _WRONG[wrong]
    error = refusal(make(authority.person()), authority)
    assert error.reason == "PROXY_INVALID"
    assert said in error.message


def test_a_path_length_that_is_kept_is_no_obstacle(authority: Authority) -> None:
    jane = authority.person()
    assert authenticate(jane.proxy(path_length=1).proxy(path_length=0), authority).subject == JANE


def test_a_proxy_without_the_certificate_above_it_is_refused(authority: Authority) -> None:
    proxy = authority.person().proxy()
    assert (
        "did not send the certificate" in refusal(Credential(proxy.certificate, proxy.key)).message
    )


def test_an_authority_issues_no_proxies(authority: Authority) -> None:
    own = Credential(authority.certificate, authority.key)
    assert "an authority, not a person" in refusal(own.proxy()).message


def test_a_certificate_that_expires_while_the_connection_lasts_is_refused(
    authority: Authority,
) -> None:
    error = refusal(authority.person(), authority, now=datetime.now(UTC) + 2 * DAY)
    assert error.reason == "CERTIFICATE_EXPIRED"


def test_a_chain_without_end_is_refused(authority: Authority) -> None:
    proxy = authority.person()
    for _ in range(21):
        proxy = proxy.proxy()
    assert refusal(proxy, authority).reason == "PROXY_INVALID"
    assert refusal(proxy, *[authority] * 20).reason == "CERTIFICATE_INVALID"


def test_a_certificate_without_any_name_is_refused(authority: Authority) -> None:
    assert "names nobody" in refusal(authority.issue([])).message


def test_garbage_is_refused() -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        X509Authenticator(lambda: EVERYBODY).authenticate(
            Evidence("", {}, (b"0garbage",)), datetime.now(UTC)
        )
    assert caught.value.reason == "CERTIFICATE_INVALID"


def test_a_revoked_certificate_is_refused_and_so_is_a_proxy_of_it(authority: Authority) -> None:
    jane, john = authority.person(), authority.person("John")
    listed, problems = read_revocations(
        [authority.revocation_list(jane.certificate)], [authority.certificate]
    )
    assert not problems
    for credential in (jane, jane.proxy()):
        assert refusal(credential, authority, revocations=listed).reason == "CERTIFICATE_REVOKED"
    authenticate(john, authority, revocations=listed)


def test_a_list_that_is_out_of_date_says_nothing_good(authority: Authority) -> None:
    old = authority.revocation_list(end=datetime.now(UTC) - timedelta(hours=1))
    listed, _ = read_revocations([old], [authority.certificate])
    error = refusal(authority.person(), authority, revocations=listed)
    assert error.reason == "REVOCATION_LIST_EXPIRED"


def test_a_list_that_another_signed_does_not_count(authority: Authority) -> None:
    forged = Authority().revocation_list(authority.person().certificate)
    listed, problems = read_revocations([forged], [authority.certificate])
    assert not listed.lists
    assert "no authority here signed" in problems[0]


def test_the_newer_of_two_lists_counts_whatever_their_order(authority: Authority) -> None:
    jane = authority.person()
    old = authority.revocation_list(begin=datetime.now(UTC) - 3 * DAY)
    new = authority.revocation_list(jane.certificate)
    for pems in ([old, new], [new, old], [old + new]):
        listed, _ = read_revocations(pems, [authority.certificate])
        assert refusal(jane, revocations=listed).reason == "CERTIFICATE_REVOKED"


def distribution_point(**only: bool) -> x509.IssuingDistributionPoint:
    values: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    if not only:
        values["full_name"] = [x509.UniformResourceIdentifier("http://ca.example.org/crl")]
    return x509.IssuingDistributionPoint(**(values | only))


@pytest.mark.parametrize(
    "partial",
    [
        x509.DeltaCRLIndicator(1),
        distribution_point(only_contains_ca_certs=True),
        distribution_point(indirect_crl=True),
        distribution_point(only_contains_attribute_certs=True),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
    ],
)
def test_a_newer_list_of_some_lets_nobody_in_whom_the_full_one_keeps_out(
    authority: Authority, partial: x509.ExtensionType
) -> None:
    jane, john = authority.person(), authority.person("John")
    full = authority.revocation_list(jane.certificate, begin=datetime.now(UTC) - 3 * DAY)
    newer = authority.revocation_list(extensions=[partial])
    for pems in ([full, newer], [newer, full]):
        listed, _ = read_revocations(pems, [authority.certificate])
        assert refusal(jane, authority, revocations=listed).reason == "CERTIFICATE_REVOKED"
        authenticate(john, authority, revocations=listed)
    # Alone it says nothing of Jane, though somebody wanted to know.
    other = Authority("Other CA")
    alone, _ = read_revocations(
        [newer, other.revocation_list()], [authority.certificate, other.certificate]
    )
    assert refusal(jane, authority, revocations=alone).reason == "REVOCATION_LIST_EXPIRED"


def test_a_delta_is_refused_loudly(authority: Authority) -> None:
    delta = authority.revocation_list(extensions=[x509.DeltaCRLIndicator(41)])
    _, problems = read_revocations([delta], [authority.certificate])
    assert "delta" in problems[0]
    assert "41" in problems[0]


def test_a_list_for_users_tells_of_users(authority: Authority) -> None:
    jane, john = authority.person(), authority.person("John")
    users = authority.revocation_list(
        jane.certificate, extensions=[distribution_point(only_contains_user_certs=True)]
    )
    listed, problems = read_revocations([users], [authority.certificate])
    assert not problems
    assert refusal(jane, authority, revocations=listed).reason == "CERTIFICATE_REVOKED"
    authenticate(john, authority, revocations=listed)


def test_a_full_list_that_names_where_it_is_published_is_a_full_list(authority: Authority) -> None:
    jane = authority.person()
    pem = authority.revocation_list(jane.certificate, extensions=[distribution_point()])
    listed, problems = read_revocations([pem], [authority.certificate])
    assert not problems
    assert refusal(jane, authority, revocations=listed).reason == "CERTIFICATE_REVOKED"
