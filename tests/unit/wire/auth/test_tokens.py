"""Bearer tokens: what is taken, and the reason that each bad one is given."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.admission_config import IssuerTable
from pandawn_server.domain.access.admission import Admission, Rule
from pandawn_server.domain.access.principals import Method, Principal, Role
from pandawn_server.domain.errors import ForbiddenError, UnauthenticatedError
from pandawn_server.wire.auth.api import AUTHORIZATION, Evidence
from pandawn_server.wire.auth.keys import KeyRing
from pandawn_server.wire.auth.tokens import LEEWAY, MAX_TOKEN_BYTES, TokenAuthenticator
from tests.fixtures.tokens import AUDIENCE, ISSUER, TokenIssuer

EVERYBODY = Admission([Rule("all", Method.TOKEN, frozenset({Role.USER}))])


class Judge:
    """An authenticator that trusts one issuer."""

    def __init__(self, issuer: TokenIssuer, directory: Path, **table: object) -> None:
        path = issuer.write_jwks(directory / "jwks.json")
        trusted = IssuerTable.model_validate(
            {"url": issuer.url, "audience": AUDIENCE, "jwks": str(path), **table}
        )
        self.keys = KeyRing(directory)
        self.keys.watch([trusted])
        self.keys.refresh(datetime.now(UTC))
        self.authenticator = TokenAuthenticator(
            lambda: EVERYBODY, lambda: {trusted.url: trusted}, self.keys
        )

    def admit(self, token: str, now: datetime | None = None) -> Principal:
        evidence = Evidence("ipv4:192.0.2.1:1", {AUTHORIZATION: f"Bearer {token}"})
        found = self.authenticator.authenticate(evidence, now or datetime.now(UTC))
        assert found is not None
        return found

    def reason(self, token: str, now: datetime | None = None) -> str:
        with pytest.raises(UnauthenticatedError) as caught:
            self.admit(token, now)
        if len(token) > 20:
            assert token not in caught.value.message, "a token is a secret"
        return caught.value.reason


@pytest.fixture
def judge(token_issuer: TokenIssuer, tmp_path: Path) -> Judge:
    return Judge(token_issuer, tmp_path)


def encoded(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_a_good_token_names_its_holder(judge: Judge, token_issuer: TokenIssuer) -> None:
    token = token_issuer.token("4711", groups=["/atlas", "/atlas/de"], scope="compute.read openid")
    principal = judge.admit(token)
    assert principal.method is Method.TOKEN
    assert principal.subject == f"{ISSUER} 4711"
    assert principal.groups == ("/atlas", "/atlas/de")
    assert principal.scopes == frozenset({"compute.read", "openid"})
    assert principal.expire_time == datetime.fromtimestamp(int(str(claims_of(token)["exp"])), UTC)


def test_rs256_is_taken_too(tmp_path: Path) -> None:
    issuer = TokenIssuer(algorithm="RS256")
    assert Judge(issuer, tmp_path).admit(issuer.token()).subject == f"{ISSUER} jane"


@pytest.mark.parametrize(
    "scope", ["compute.read compute.create", ["compute.read", "compute.create"]]
)
def test_scopes_may_be_a_text_or_a_list(
    judge: Judge, token_issuer: TokenIssuer, scope: str | list[str]
) -> None:
    assert judge.admit(token_issuer.token(scope=scope)).scopes == frozenset(
        {"compute.read", "compute.create"}
    )


def test_a_token_without_scopes_has_none_and_not_all(
    judge: Judge, token_issuer: TokenIssuer
) -> None:
    assert judge.admit(token_issuer.token(scope=None)).scopes == frozenset()


def test_a_scitoken_is_taken(judge: Judge, token_issuer: TokenIssuer) -> None:
    judge.admit(
        token_issuer.token(claims={"wlcg.ver": None, "wlcg.groups": None, "ver": "scitoken:2.0"})
    )


def test_groups_get_the_prefix_of_their_issuer(token_issuer: TokenIssuer, tmp_path: Path) -> None:
    judge = Judge(token_issuer, tmp_path, group_prefix="iam:")
    assert judge.admit(token_issuer.token(groups=["/atlas"])).groups == ("iam:/atlas",)


def test_a_call_without_a_token_shows_nothing(judge: Judge) -> None:
    assert judge.authenticator.authenticate(Evidence("", {}), datetime.now(UTC)) is None


def test_who_is_known_and_not_admitted_is_told_so(token_issuer: TokenIssuer, judge: Judge) -> None:
    judge.authenticator = TokenAuthenticator(
        lambda: Admission(()), judge.authenticator._issuers, judge.keys
    )
    with pytest.raises(ForbiddenError, match="jane"):
        judge.admit(token_issuer.token())


def test_times_are_compared_with_the_clock_of_the_server(
    judge: Judge, token_issuer: TokenIssuer
) -> None:
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    token = token_issuer.token(begin=begin, lifetime=timedelta(hours=1))
    second = timedelta(seconds=1)
    end = begin + timedelta(hours=1)
    assert judge.reason(token, begin - LEEWAY - second) == "TOKEN_NOT_YET_VALID"
    judge.admit(token, begin - LEEWAY + second)
    judge.admit(token, end + LEEWAY - second)
    assert judge.reason(token, end + LEEWAY + second) == "TOKEN_EXPIRED"


def test_the_leeway_is_a_minute_at_most() -> None:
    assert timedelta() < LEEWAY <= timedelta(minutes=1)


@pytest.mark.parametrize(
    "audience",
    ["https://other.example.org", [], ["a", "b"], f"{AUDIENCE}/", None, AUDIENCE.upper()],
)
def test_a_token_for_another_service_is_refused(
    judge: Judge, token_issuer: TokenIssuer, audience: str
) -> None:
    token = token_issuer.token(audience=audience)
    assert judge.reason(token) in {"WRONG_AUDIENCE", "TOKEN_MALFORMED"}


def test_one_audience_of_several_is_enough(judge: Judge, token_issuer: TokenIssuer) -> None:
    judge.admit(token_issuer.token(audience=["https://other.example.org", AUDIENCE]))


@pytest.mark.parametrize("url", [ISSUER.rstrip("/"), ISSUER.upper(), "https://evil.example.org/"])
def test_an_issuer_is_trusted_by_its_exact_name(
    judge: Judge, token_issuer: TokenIssuer, url: str
) -> None:
    assert judge.reason(token_issuer.token(claims={"iss": url})) == "UNKNOWN_ISSUER"


def test_another_key_under_the_same_name_is_refused(judge: Judge) -> None:
    assert judge.reason(TokenIssuer().token()) == "BAD_SIGNATURE"


def test_a_changed_claim_is_noticed(judge: Judge, token_issuer: TokenIssuer) -> None:
    header, _, signature = token_issuer.token().split(".")
    changed = claims_of(token_issuer.token()) | {"sub": "root"}
    assert judge.reason(f"{header}.{encoded(changed)}.{signature}") == "BAD_SIGNATURE"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "ES256K"])
def test_algorithms_that_nobody_allowed_are_refused(
    judge: Judge, token_issuer: TokenIssuer, algorithm: str
) -> None:
    _, claims, signature = token_issuer.token().split(".")
    header = encoded({"alg": algorithm, "typ": "JWT", "kid": "key-1"})
    for end in ("", signature):
        assert judge.reason(f"{header}.{claims}.{end}") == "ALGORITHM_NOT_ALLOWED"


def test_the_public_key_is_no_shared_secret(judge: Judge, token_issuer: TokenIssuer) -> None:
    # Algorithm confusion: the attacker signs with HMAC and the key that everybody knows.
    header = encoded({"alg": "HS256", "typ": "JWT", "kid": "key-1"})
    signed = f"{header}.{encoded(claims_of(token_issuer.token()))}"
    for secret in (token_issuer.public_pem, token_issuer.public_pem.strip(), b""):
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        assert judge.reason(f"{signed}.{encoded(mac)}") == "ALGORITHM_NOT_ALLOWED"


def test_a_key_checks_signatures_of_its_own_kind_only(tmp_path: Path) -> None:
    issuer = TokenIssuer(algorithm="RS256")
    judge = Judge(issuer, tmp_path)
    other = TokenIssuer()
    # Signed with another kind of key under the same kid.
    assert judge.reason(other.token()) == "BAD_SIGNATURE"


def test_an_algorithm_can_be_forbidden_to_an_issuer(
    token_issuer: TokenIssuer, tmp_path: Path
) -> None:
    judge = Judge(token_issuer, tmp_path, algorithms=["RS256"])
    assert judge.reason(token_issuer.token()) == "ALGORITHM_NOT_ALLOWED"


def test_keys_that_a_token_brings_along_are_not_used(judge: Judge) -> None:
    evil = TokenIssuer()
    for header in (
        {"jwk": evil.jwk()},
        {"jku": "http://127.0.0.1:1/jwks"},
        {"x5u": "http://127.0.0.1:1/x"},
        {"x5c": [base64.b64encode(evil.public_pem).decode()]},
    ):
        assert judge.reason(evil.token(headers=header)) == "BAD_SIGNATURE"


def test_an_unknown_key_is_looked_for_and_named(judge: Judge, token_issuer: TokenIssuer) -> None:
    token = token_issuer.token(headers={"kid": "../../etc/passwd"})
    assert judge.reason(token) == "UNKNOWN_KEY"
    assert judge.keys.sources[ISSUER].wanted


def test_without_a_key_name_all_keys_are_tried(tmp_path: Path) -> None:
    old, new = TokenIssuer(key_id="old"), TokenIssuer(key_id="new")
    judge = Judge(old, tmp_path)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [old.jwk(), new.jwk()]}))
    judge.keys.refresh(datetime.now(UTC))
    judge.admit(new.token(headers={"kid": None}))


def test_extensions_that_must_be_understood_are_refused(
    judge: Judge, token_issuer: TokenIssuer
) -> None:
    token = token_issuer.token(headers={"crit": ["exp"], "exp": "1"})
    assert judge.reason(token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize("claim", ["exp", "sub", "aud"])
def test_a_claim_that_must_be_there_is_missed(
    judge: Judge, token_issuer: TokenIssuer, claim: str
) -> None:
    token = jwt.encode(
        {name: value for name, value in claims_of(token_issuer.token()).items() if name != claim},
        token_issuer.key,
        algorithm="ES256",
        headers={"kid": "key-1"},
    )
    assert judge.reason(token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("exp", "tomorrow"),
        ("exp", True),
        ("exp", math.inf),
        ("exp", math.nan),
        ("exp", 1e300),
        ("exp", [1]),
        ("nbf", "0"),
        ("iat", {}),
        ("sub", 4711),
        ("sub", ""),
        ("sub", "x" * 256),
        ("scope", 5),
        ("scope", [1]),
        ("scope", {"a": 1}),
        ("wlcg.groups", [["a"]]),
    ],
)
def test_claims_of_the_wrong_kind_are_refused(
    judge: Judge, token_issuer: TokenIssuer, claim: str, value: object
) -> None:
    content = claims_of(token_issuer.token()) | {claim: value}
    token = jwt.encode(content, token_issuer.key, algorithm="ES256", headers={"kid": "key-1"})
    assert judge.reason(token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize("version", ["2.0", "", "1", 2])
def test_a_profile_of_the_future_is_refused(
    judge: Judge, token_issuer: TokenIssuer, version: object
) -> None:
    token = token_issuer.token(claims={"wlcg.ver": version})
    assert judge.reason(token) == "TOKEN_PROFILE_UNKNOWN"


_MALFORMED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "one part": lambda _: "a",
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: token + ".x",
    "twice": lambda token: f"{token}, Bearer {token}",
    "with a space": lambda token: token.replace(".", " ."),
    "not ASCII": lambda token: token + "é",
    "too long": lambda token: token + "a" * MAX_TOKEN_BYTES,
    "no JSON": lambda _: f"{encoded(b'{')}.{encoded(b'{')}.x",
    "no object": lambda _: f"{encoded([])}.{encoded([])}.x",
    "deeply nested": lambda _: f"{encoded({'alg': 'ES256'})}.{encoded(b'[' * 11_000)}.x",
    "deep header": lambda _: f"{encoded(b'[' * 11_000)}.{encoded({})}.x",
    "encrypted": lambda _: ".".join([encoded({"alg": "dir", "enc": "A128GCM"}), "", "x", "x", "x"]),
}


@pytest.mark.parametrize("how", _MALFORMED)
def test_what_is_no_token_is_refused(judge: Judge, token_issuer: TokenIssuer, how: str) -> None:
    assert judge.reason(_MALFORMED[how](token_issuer.token())) == "TOKEN_MALFORMED"


@pytest.mark.parametrize("header", ["Basic amFuZTpkb2U=", "Bearer", "", "eyJ"])
def test_other_authorizations_are_refused(judge: Judge, header: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        judge.authenticator.authenticate(Evidence("", {AUTHORIZATION: header}), datetime.now(UTC))
    assert caught.value.reason == "TOKEN_MALFORMED"


@given(st.text(max_size=200), st.binary(max_size=100), st.binary(max_size=100))
def test_nothing_that_is_sent_makes_more_than_a_refusal(
    header: str, first: bytes, second: bytes
) -> None:
    authenticator = TokenAuthenticator(lambda: EVERYBODY, dict, KeyRing(Path("/nonexistent")))
    for sent in (header, f"Bearer {header}", f"Bearer {encoded(first)}.{encoded(second)}.x"):
        with pytest.raises(UnauthenticatedError):
            authenticator.authenticate(Evidence("", {AUTHORIZATION: sent}), datetime.now(UTC))
