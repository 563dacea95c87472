"""Who is let in: the first rule that matches the whole of what is shown, and names that nobody shares."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.domain.access.admission import (
    USER_NAME,
    Admission,
    Patterns,
    Rule,
    Shown,
    is_free_name,
    made_name,
)
from pandawn_server.domain.access.principals import Method, Role
from pandawn_server.domain.errors import ForbiddenError
from tests.fixtures.clock import NOON

DN = "/DC=org/DC=example/OU=People/CN=Jane Doe"
CA = "/DC=org/DC=example/CN=Test CA"


def make_shown(**overrides: object) -> Shown:
    plain = Shown(
        method=Method.X509,
        issuer=CA,
        subject=DN,
        readable="Jane Doe",
        expire_time=NOON + timedelta(hours=1),
    )
    return replace(plain, **overrides)  # type: ignore[arg-type]


def make_token(**overrides: object) -> Shown:
    token = {"method": Method.TOKEN, "issuer": "https://iam.example.org/", "subject": "4711"}
    return make_shown(**{**token, **overrides})


def make_rule(**overrides: object) -> Rule:
    plain = Rule(name="people", method=Method.X509, roles=frozenset({Role.USER}))
    return replace(plain, **overrides)  # type: ignore[arg-type]


def patterns(*texts: str) -> Patterns:
    return Patterns(tuple(map(re.compile, texts)))


def test_the_first_rule_that_matches_wins_and_is_named() -> None:
    admission = Admission(
        [
            make_rule(name="others", subjects=patterns("/C=de/.*")),
            make_rule(
                name="jane", subjects=patterns("/DC=org/.*"), roles=frozenset({Role.OPERATOR})
            ),
            make_rule(name="everybody"),
        ]
    )
    principal = admission.admit(make_shown())
    assert (principal.rule, principal.roles) == (
        "jane",
        frozenset({Role.OPERATOR}),
    )
    assert principal.subject == DN
    assert principal.expire_time == NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    "subject", [DN + "x", "x" + DN, DN + "\n", DN + "/CN=proxy", DN.upper(), ""]
)
def test_a_pattern_must_match_the_whole_subject(subject: str) -> None:
    admission = Admission([make_rule(subjects=patterns(re.escape(DN)))])
    with pytest.raises(ForbiddenError) as caught:
        admission.admit(make_shown(subject=subject))
    assert caught.value.reason == "NOT_ADMITTED"


def test_a_refusal_says_what_was_found_and_nothing_of_the_rules() -> None:
    admission = Admission([make_rule(name="secret", subjects=patterns("/CN=root"))])
    with pytest.raises(ForbiddenError) as caught:
        admission.admit(make_shown())
    assert DN in caught.value.message
    assert CA in caught.value.message
    assert "secret" not in caught.value.message
    assert "root" not in caught.value.message


def test_all_that_a_rule_asks_for_must_be_there() -> None:
    rule = make_rule(
        method=Method.TOKEN,
        issuers=patterns(r"https://iam\.example\.org/"),
        groups=patterns("/atlas(/.*)?"),
        scopes=patterns(r"compute\.create"),
    )
    good = make_token(groups=("/cms", "/atlas/de"), scopes=frozenset({"compute.create", "openid"}))
    assert Admission([rule]).admit(good).groups == ("/cms", "/atlas/de")
    for bad in (
        replace(good, issuer="https://iam.example.org/x"),
        replace(good, groups=("/cms", "/atlasx")),
        replace(good, groups=()),
        replace(good, scopes=frozenset({"compute.create:/x"})),
        replace(good, scopes=None),
        replace(good, method=Method.X509),
    ):
        with pytest.raises(ForbiddenError):
            Admission([rule]).admit(bad)


def test_a_host_is_matched_by_the_names_in_its_certificate() -> None:
    admission = Admission([make_rule(hosts=patterns(r"wn\d+\.example\.org"))])
    admission.admit(make_shown(hosts=("alias.example.org", "wn12.example.org")))
    with pytest.raises(ForbiddenError):
        admission.admit(make_shown(hosts=("wn12.example.org.evil.net",)))


def test_a_rule_adds_groups_and_sites() -> None:
    rule = make_rule(
        roles=frozenset({Role.SITE_ADMIN}), grants=("admins", "a"), sites=frozenset({"T3"})
    )
    principal = Admission([rule]).admit(make_shown(groups=("a",)))
    assert principal.groups == ("a", "admins")
    assert principal.administers("T3")
    assert not principal.administers("T2")


def test_a_name_that_the_site_gave_wins() -> None:
    rule = make_rule(users={DN: "jane"}, user_claim="preferred_username")
    assert Admission([rule]).admit(make_shown()).name == "jane"


def test_a_claim_that_is_unique_becomes_the_name() -> None:
    rule = make_rule(method=Method.TOKEN, user_claim="preferred_username")
    shown = make_token(claims={"preferred_username": "jane"})
    assert Admission([rule]).admit(shown).name == "jane"


@pytest.mark.parametrize(
    "claim", ["", "Jane", "../jane", "jane doe", "a" * 65, "x.abcdefghijklmnop"]
)
def test_a_claim_that_is_no_good_name_is_refused_and_not_bent(claim: str) -> None:
    rule = make_rule(method=Method.TOKEN, user_claim="preferred_username")
    with pytest.raises(ForbiddenError) as caught:
        Admission([rule]).admit(make_token(claims={"preferred_username": claim}))
    assert caught.value.reason == "NO_USER_NAME"


def test_nobody_takes_a_name_that_the_site_gave_to_another() -> None:
    rules = [
        make_rule(users={DN: "jane"}),
        make_rule(name="token", method=Method.TOKEN, user_claim="preferred_username"),
    ]
    with pytest.raises(ForbiddenError) as caught:
        Admission(rules).admit(make_token(claims={"preferred_username": "jane"}))
    assert caught.value.reason == "USER_NAME_TAKEN"


def test_a_made_name_is_readable() -> None:
    assert re.fullmatch(r"jane-doe\.[a-z2-7]{16}", made_name(make_shown()))
    assert made_name(make_shown(readable="Jörg Müller")).startswith("jorg-muller.")
    assert made_name(make_shown(readable="名前")).startswith("user.")


def test_subjects_that_look_alike_get_different_names() -> None:
    shown = [
        make_shown(),
        make_shown(issuer=CA + "/"),
        make_shown(subject="/DC=org/DC=example/OU=People/CN=jane doe"),
        make_shown(method=Method.TOKEN),
        make_shown(issuer=CA + DN[0], subject=DN[1:]),
    ]
    assert len({made_name(each) for each in shown}) == len(shown)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=200))
def test_a_made_name_is_safe_and_never_one_that_may_be_given(
    issuer: str, subject: str, readable: str
) -> None:
    name = made_name(make_shown(issuer=issuer, subject=subject, readable=readable))
    assert USER_NAME.fullmatch(name)
    assert not is_free_name(name)
