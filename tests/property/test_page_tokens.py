"""Page tokens come back as they were made, and only with the call and filter they were made for."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pandawn_server.domain.errors import InvalidRequestError
from pandawn_server.wire.edge.page_token import (
    FilterPart,
    KeyPart,
    decode_page_token,
    encode_page_token,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
# Sort keys come from columns of the database, which hold no NUL.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
KEYS = st.lists(INT64 | TEXT, min_size=1, max_size=4)
FILTERS = st.lists(INT64 | st.text() | st.booleans(), max_size=5)
RPCS = st.sampled_from(["Broker/ListTasks", "Broker/ListJobs"])
URL_SAFE = string.ascii_letters + string.digits + "-_"


def shape_of(key: list[KeyPart]) -> list[type[KeyPart]]:
    return [type(part) for part in key]


def is_refused(token: str, rpc: str, filters: list[FilterPart], shape: list[type[KeyPart]]) -> bool:
    try:
        decode_page_token(token, rpc, filters, shape)
    except InvalidRequestError as error:
        return error.reason == "INVALID_PAGE_TOKEN"
    return False


@given(RPCS, FILTERS, KEYS)
def test_a_key_survives_the_round_trip_in_a_url_safe_token(
    rpc: str, filters: list[FilterPart], key: list[KeyPart]
) -> None:
    token = encode_page_token(rpc, filters, key)
    assert set(token) <= set(URL_SAFE)
    assert decode_page_token(token, rpc, filters, shape_of(key)) == tuple(key)


@given(RPCS, FILTERS, FILTERS, KEYS)
def test_a_token_of_another_filter_is_refused(
    rpc: str, filters: list[FilterPart], others: list[FilterPart], key: list[KeyPart]
) -> None:
    assume([(type(part), part) for part in filters] != [(type(part), part) for part in others])
    assert is_refused(encode_page_token(rpc, filters, key), rpc, others, shape_of(key))


@given(FILTERS, KEYS)
def test_a_token_of_another_call_is_refused(filters: list[FilterPart], key: list[KeyPart]) -> None:
    token = encode_page_token("Broker/ListTasks", filters, key)
    assert is_refused(token, "Broker/ListJobs", filters, shape_of(key))


@given(RPCS, FILTERS, KEYS, st.data())
def test_a_token_with_one_character_changed_is_refused(
    rpc: str, filters: list[FilterPart], key: list[KeyPart], data: st.DataObject
) -> None:
    token = encode_page_token(rpc, filters, key)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(URL_SAFE))
    assume(other != token[at])
    assert is_refused(token[:at] + other + token[at + 1 :], rpc, filters, shape_of(key))


@given(RPCS, FILTERS, KEYS, st.data())
def test_a_token_cut_short_or_prolonged_is_refused(
    rpc: str, filters: list[FilterPart], key: list[KeyPart], data: st.DataObject
) -> None:
    token = encode_page_token(rpc, filters, key)
    cut = data.draw(st.integers(1, len(token) - 1))
    more = data.draw(st.text(min_size=1))
    assert is_refused(token[:cut], rpc, filters, shape_of(key))
    assert is_refused(token + more, rpc, filters, shape_of(key))


@given(st.text(min_size=1), st.lists(st.sampled_from([int, str]), max_size=3))
def test_any_other_text_is_refused_and_never_fails_otherwise(
    token: str, shape: list[type[KeyPart]]
) -> None:
    assert is_refused(token, "Broker/ListTasks", [], shape)


@given(RPCS, FILTERS, KEYS, KEYS)
def test_a_key_of_another_shape_is_refused(
    rpc: str, filters: list[FilterPart], key: list[KeyPart], other: list[KeyPart]
) -> None:
    assume(len(key) != len(other))
    token = encode_page_token(rpc, filters, key)
    found: object = None
    try:
        found = decode_page_token(token, rpc, filters, shape_of(other))
    except InvalidRequestError:
        return
    pytest.fail(f"a key of {len(key)} parts was taken for one of {len(other)}: {found}")


def test_no_token_is_the_first_page() -> None:
    assert decode_page_token("", "Broker/ListTasks", ["alice"], [int]) is None
