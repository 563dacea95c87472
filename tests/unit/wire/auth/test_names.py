"""Distinguished names as text: what one value says never looks like two."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.wire.auth.names import shown_name
from tests.fixtures.certificates import make_name


def test_a_name_reads_as_the_grid_writes_it() -> None:
    name = make_name([("DC", "org"), ("DC", "example"), ("OU", "People"), ("CN", "Jane Doe")])
    assert shown_name(name) == "/DC=org/DC=example/OU=People/CN=Jane Doe"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x/CN=admin", r"/CN=x\/CN=admin"),
        ("x+UID=0", r"/CN=x\+UID=0"),
        ("back\\slash", r"/CN=back\\slash"),
        ("line\nbreak", r"/CN=line\x0abreak"),
        ("nul\x00", r"/CN=nul\x00"),
        ("\u202egnp", r"/CN=\xe2\x80\xaegnp"),
        ("no\u00a0break", r"/CN=no\xc2\xa0break"),
        ("Jörg", "/CN=Jörg"),
    ],
)
def test_what_could_deceive_is_escaped(value: str, shown: str) -> None:
    assert shown_name(make_name([("CN", value)])) == shown


def test_a_slash_inside_a_value_is_no_second_part() -> None:
    one = make_name([("O", "x/CN=admin")])
    two = make_name([("O", "x"), ("CN", "admin")])
    assert shown_name(one) != shown_name(two)


def test_parts_at_one_level_are_joined_by_a_plus() -> None:
    level = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "b")]
    )
    assert shown_name(x509.Name([level])) in {"/CN=a+UID=b", "/UID=b+CN=a"}


def test_an_attribute_without_a_short_name_has_its_number() -> None:
    attribute = x509.NameAttribute(x509.ObjectIdentifier("2.5.4.65"), "p")
    assert shown_name(x509.Name([attribute])) == "/2.5.4.65=p"


_PARTS = st.lists(
    st.tuples(
        st.sampled_from(["O", "OU", "CN", "DC"]),
        st.text(st.sampled_from("a/+\\=CNO\n"), min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@given(_PARTS, _PARTS)
def test_different_names_never_look_alike(
    one: list[tuple[str, str]], two: list[tuple[str, str]]
) -> None:
    assert (one == two) == (shown_name(make_name(one)) == shown_name(make_name(two)))
