"""Random requests, files and addresses: whatever comes in, the answer is one that was thought of.

Derandomised: a run in CI takes the same bounded time each time and fails only for a reason.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.admission_config import AdmissionFileError, read_admission_file
from pandawn_server.config import ConfigError, Network, load_settings
from pandawn_server.listeners import parse_listener
from pandawn_server.wire.auth.peers import address_of, forwarded_peer
from tests.fixtures.besieged import ANSWERS, Besieged, opened_for_attack
from tests.fixtures.fuzz import BOUNDED, FEW, damaged, messages
from tests.fixtures.messages import Method, methods
from tests.fixtures.server import running_servers

METHODS = methods()
WORDS = st.sampled_from(
    [
        *("name", "url", "jwks", "audience", "algorithms", "issuer", "admit", "method", "roles"),
        *(
            "subject",
            "users",
            "sites",
            "token",
            "x509",
            "operator",
            "listen",
            "database",
            "catalog",
        ),
        *(
            "127.0.0.1:1",
            "unix:/x",
            "?auth=",
            "tls=on",
            "&",
            "host",
            "memcached://h",
            "(a+)+$",
            "none",
        ),
    ]
)
SCALARS = WORDS | st.text(max_size=5) | st.integers() | st.booleans() | st.floats()


def toml_of(value: object) -> str:
    """A value as TOML, as good as it can be written; some of it is not TOML at all."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


TABLES = st.dictionaries(
    WORDS,
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(WORDS, SCALARS, max_size=3),
    max_size=6,
)
DOCUMENTS = st.binary(max_size=60) | st.builds(
    lambda top, issuers, rules: "\n".join(
        [
            *(f"{key} = {toml_of(value)}" for key, value in top.items()),
            *(f"[[issuer]]\n{_lines(table)}" for table in issuers),
            *(f"[[admit]]\n{_lines(table)}" for table in rules),
        ]
    ).encode(errors="replace"),
    TABLES,
    st.lists(TABLES, max_size=2),
    st.lists(TABLES, max_size=2),
)


def _lines(table: dict[str, object]) -> str:
    return "\n".join(f"{key} = {toml_of(value)}" for key, value in table.items())


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Besieged]:
    with running_servers() as start, opened_for_attack(start()) as besieged:
        yield besieged
        besieged.check_unharmed()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.descriptor.name)
def test_random_requests_are_answered_as_was_thought_of(fuzzed: Besieged, method: Method) -> None:
    whole = messages(method.descriptor.input_type).map(lambda m: m.SerializeToString())

    @FEW
    @given(whole | damaged(whole) | st.binary(max_size=30))
    def run(request: bytes) -> None:
        answer = fuzzed.call(method, request)
        assert answer.code in ANSWERS, answer

    run()


@BOUNDED
@given(DOCUMENTS)
def test_an_admission_file_is_read_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "admission.toml"
        path.write_bytes(content)
        with suppress(AdmissionFileError):
            read_admission_file(path)


@BOUNDED
@given(DOCUMENTS)
def test_a_configuration_file_is_read_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "pandawn.toml"
        path.write_bytes(content)
        with suppress(ConfigError):
            load_settings({}, path)


@BOUNDED
@given(st.lists(WORDS | st.text(max_size=4), max_size=5).map("".join))
def test_an_entry_of_listen_is_read_or_refused(entry: str) -> None:
    with suppress(ValueError):
        listener = parse_listener(entry)
        assert listener.is_local or not listener.admits_this_machine


NOWHERE: tuple[Network, ...] = ()
ADDRESSES = st.ip_addresses().map(str) | st.text(string.hexdigits + ".:[]%/ ", max_size=40)


@BOUNDED
@given(st.sampled_from(["ipv4:", "ipv6:", "ipv6:[", "unix:", ""]), ADDRESSES, st.text(max_size=8))
def test_a_peer_has_an_address_or_none(scheme: str, address: str, rest: str) -> None:
    peer = f"{scheme}{address}{rest}"
    address_of(peer)
    # Who is no trusted proxy speaks for itself, whatever it says.
    header = {"x-forwarded-for": address}
    assert forwarded_peer(NOWHERE, "x-forwarded-for", trust_socket=False)(peer, header) == peer
