"""The admission file: what it may say, and what is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from pandawn_server.admission_config import AdmissionFileError, read_admission_file

GOOD = r"""
[[issuer]]
url = "https://iam.example.org/"
audience = "https://pandawn.example.org"
jwks = "keys.json"

[[admit]]
name = "pilots"
method = "token"
roles = ["pilot"]
issuer = 'https://iam\.example\.org/'
subject = ["robot-1", "robot-2"]

[[admit]]
name = "jane"
method = "x509"
roles = ["site-admin", "user"]
sites = ["T3"]
subject = '/DC=org/.*/CN=Jane Doe'
users = { "/DC=org/DC=example/CN=Jane Doe" = "jane" }
"""


def read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "admission.toml"
    path.write_text(text)
    read_admission_file(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(AdmissionFileError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_paths_in_it_start_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "admission.toml"
    path.write_text(GOOD)
    found = read_admission_file(path)
    assert found.issuers["https://iam.example.org/"].jwks == str(tmp_path / "keys.json")


def test_all_that_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    text = refused(tmp_path, GOOD.replace('"pilot"]', '"root"]').replace("sites =", "site ="))
    assert "admit 1 roles 1: Input should be 'pilot'" in text
    assert "admit 2 site: there is no such key" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("subject = '/DC=org/.*/CN=Jane Doe'", "subject = '('", "not a regular expression"),
        ('sites = ["T3"]', "", "needs `sites`"),
        ("subject = '/DC=org/.*/CN=Jane Doe'", "", "everybody known to an issuer"),
        ('subject = ["robot-1", "robot-2"]', "", "everybody known to an issuer"),
        ("subject = '/DC=org/.*/CN=Jane Doe'", "group = 'x'", "a certificate has no groups"),
        (r"'https://iam\.example\.org/'", "'https://other/'", "matches no [[issuer]]"),
        ('name = "jane"', 'name = "pilots"', "two rules are called 'pilots'"),
        ('= "jane" }', '= "../x" }', "a name is 1 to 64 of"),
        ('= "jane" }', '= "x.abcdefghijklmnop" }', "does not end like a generated one"),
        ('"keys.json"', '"http://iam.example.org/jwk"', "use https://"),
        ('"keys.json"', '"keys.json"\nalgorithms = ["none"]', "Input should be 'RS256'"),
        ('"keys.json"', '"keys.json"\nalgorithms = ["HS256"]', "Input should be 'RS256'"),
        ('audience = "https://pandawn.example.org"', "audience = []", "at least 1 item"),
    ],
)
def test_what_would_be_unsafe_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert said in refused(tmp_path, GOOD.replace(old, new))


def test_two_issuers_need_prefixes_that_tell_their_groups_apart(tmp_path: Path) -> None:
    other = GOOD.split("[[admit]]", maxsplit=1)[0].replace("iam.", "other.")
    assert "group_prefix" in refused(tmp_path, GOOD + other)
    read(tmp_path, GOOD + other + 'group_prefix = "other:"\n')


def test_names_out_of_claims_come_from_one_issuer_only(tmp_path: Path) -> None:
    issuers = GOOD.split("[[admit]]", maxsplit=1)[0]
    issuers += issuers.replace("iam.", "other.") + 'group_prefix = "other:"\n'
    rule = '[[admit]]\nname = "{}"\nmethod = "token"\nroles = ["user"]\nuser_claim = "name"\n'
    assert "matches one" in refused(tmp_path, issuers + rule.format("all"))
    one = rule.format("one") + "issuer = 'https://iam.*'\n"
    two = rule.format("two") + "issuer = 'https://other.*'\n"
    read(tmp_path, issuers + one)
    assert "more than one claim" in refused(tmp_path, issuers + one + two)


def test_a_file_that_is_not_there_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdmissionFileError, match=r"cannot read.*nowhere\.toml"):
        read_admission_file(tmp_path / "nowhere.toml")
    assert "is not TOML" in refused(tmp_path, "[[admit")
