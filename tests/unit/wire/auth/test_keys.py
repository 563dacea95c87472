"""Key sets: which keys count, and that an issuer which is away takes nobody's key with it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from pandawn_server.admission_config import IssuerTable
from pandawn_server.wire.auth.download import download
from pandawn_server.wire.auth.keys import (
    FETCH_INTERVAL,
    MAX_KEY_SET_BYTES,
    RETRY_INTERVAL,
    KeyRing,
    parse_key_set,
)
from tests.fixtures.clock import NOON
from tests.fixtures.pilots import wait_until
from tests.fixtures.ports import LOOPBACK
from tests.fixtures.tokens import ISSUER, ServedKeys, TokenIssuer

SECOND = timedelta(seconds=1)


def make_ring(directory: Path, jwks: str) -> KeyRing:
    ring = KeyRing(directory / "keys")
    ring.watch([IssuerTable(url=ISSUER, audience=("a",), jwks=jwks)])
    return ring


def ids(ring: KeyRing) -> list[str]:
    return [key.key_id for key in ring.keys(ISSUER)]


def test_keys_are_fetched_and_fetched_again_when_it_is_time(
    served_keys: ServedKeys, tmp_path: Path
) -> None:
    served_keys.body = TokenIssuer(key_id="old").jwks().encode()
    ring = make_ring(tmp_path, served_keys.url)
    assert ids(ring) == []
    ring.refresh(NOON)
    assert ids(ring) == ["old"]
    served_keys.body = TokenIssuer(key_id="new").jwks().encode()
    ring.refresh(NOON + FETCH_INTERVAL - SECOND)
    assert (ids(ring), served_keys.hits) == (["old"], 1)
    ring.refresh(NOON + FETCH_INTERVAL)
    assert (ids(ring), served_keys.hits) == (["new"], 2)


@pytest.mark.parametrize("outage", ["500", "404", "gone", "garbage", "no keys", "huge", "deep"])
def test_an_outage_takes_no_key_away(served_keys: ServedKeys, tmp_path: Path, outage: str) -> None:
    served_keys.body = TokenIssuer(key_id="kept").jwks().encode()
    ring = make_ring(tmp_path, served_keys.url)
    ring.refresh(NOON)
    match outage:
        case "500" | "404":
            served_keys.status = int(outage)
        case "gone":
            served_keys.close()
        case "garbage":
            served_keys.body = b"<html>"
        case "no keys":
            served_keys.body = b'{"keys": []}'
        case "huge":
            served_keys.body = b" " * (MAX_KEY_SET_BYTES + 1)
        case _:
            served_keys.body = b"[" * 100_000
    ring.refresh(NOON + FETCH_INTERVAL)
    assert ids(ring) == ["kept"]
    # A new process knows it too.
    assert ids(make_ring(tmp_path, served_keys.url)) == ["kept"]


def test_after_a_failure_the_next_try_is_soon(served_keys: ServedKeys, tmp_path: Path) -> None:
    served_keys.status = 503
    ring = make_ring(tmp_path, served_keys.url)
    ring.refresh(NOON)
    ring.refresh(NOON + RETRY_INTERVAL - SECOND)
    assert served_keys.hits == 1
    served_keys.status, served_keys.body = 200, TokenIssuer().jwks().encode()
    ring.refresh(NOON + RETRY_INTERVAL)
    assert ids(ring) == ["key-1"]


def test_an_unknown_key_makes_it_look_earlier_and_not_too_often(
    served_keys: ServedKeys, tmp_path: Path
) -> None:
    served_keys.body = TokenIssuer().jwks().encode()
    ring = make_ring(tmp_path, served_keys.url)
    ring.refresh(NOON)
    for second in range(60):
        ring.want(ISSUER)
        ring.refresh(NOON + second * SECOND)
    assert served_keys.hits == 2


def test_a_redirect_is_not_followed(served_keys: ServedKeys, tmp_path: Path) -> None:
    served_keys.status = 302
    served_keys.body = TokenIssuer().jwks().encode()
    ring = make_ring(tmp_path, served_keys.url)
    ring.refresh(NOON)
    assert ids(ring) == []


def test_keys_of_another_address_are_not_taken_from_disk(
    served_keys: ServedKeys, tmp_path: Path
) -> None:
    served_keys.body = TokenIssuer().jwks().encode()
    make_ring(tmp_path, served_keys.url).refresh(NOON)
    assert ids(make_ring(tmp_path, served_keys.url + "2")) == []


def test_a_file_is_read_when_it_changes(tmp_path: Path) -> None:
    path = TokenIssuer(key_id="old").write_jwks(tmp_path / "jwks")
    ring = make_ring(tmp_path, str(path))
    ring.refresh(NOON)
    path.write_text("half a fi")
    ring.refresh(NOON)
    assert ids(ring) == ["old"]
    TokenIssuer(key_id="new").write_jwks(path)
    os.utime(path, ns=(1, 1))
    ring.refresh(NOON)
    assert ids(ring) == ["new"]


def test_an_issuer_that_stays_keeps_its_keys_and_one_that_goes_loses_them(tmp_path: Path) -> None:
    path = TokenIssuer().write_jwks(tmp_path / "jwks")
    ring = make_ring(tmp_path, str(path))
    ring.refresh(NOON)
    ring.watch([IssuerTable(url=ISSUER, audience=("b",), jwks=str(path))])
    assert ids(ring) == ["key-1"]
    ring.watch([])
    assert ids(ring) == []


def test_secrets_weak_keys_and_keys_for_other_uses_do_not_count() -> None:
    good = TokenIssuer(key_id="good").jwk()
    rsa = TokenIssuer(algorithm="RS256").jwk()
    keys = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {**good, "kid": "encryption", "use": "enc"},
        {**good, "kid": "lies", "alg": "HS256"},
        {**good, "kid": "another kind", "alg": "RS256"},
        {**good, "kid": "off the curve", "x": good["y"]},
        {**rsa, "kid": "weak", "n": str(rsa["n"])[:171]},
        {"kty": "EC"},
        {"kid": "nothing"},
        "text",
        None,
        {**good, "d": "AAAA"},
    ]
    assert [key.key_id for key in parse_key_set(json.dumps({"keys": keys}).encode())] == ["good"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b'{"keys": [1]}'])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_key_set(content)


@contextmanager
def trickling(kind: str) -> Iterator[str]:
    """A web server that sends its answer a byte at a time, for ever; its address."""
    stop = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"\r\n" * (kind == "body"))
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}/jwks"
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("kind", ["body", "headers"])
def test_a_download_has_a_time_for_all_of_it(kind: str) -> None:
    with trickling(kind) as url, pytest.raises(TimeoutError, match="did not arrive"):
        download(url, None, MAX_KEY_SET_BYTES, timeout_s=0.3)


def test_an_issuer_that_answers_a_byte_at_a_time_keeps_nobody_else_s_keys(
    served_keys: ServedKeys, tmp_path: Path
) -> None:
    served_keys.body = TokenIssuer(key_id="good").jwks().encode()
    ring = KeyRing(tmp_path / "keys")
    with trickling("body") as slow:
        ring.watch(
            [
                IssuerTable(url="https://slow.example.org/", audience=("a",), jwks=slow),
                IssuerTable(url=ISSUER, audience=("a",), jwks=served_keys.url),
            ]
        )
        ring.look_ahead(NOON)
        wait_until(lambda: ids(ring) == ["good"])
        # The slow one is asked once at a time, however often it is looked for.
        fetching: list[threading.Thread] = []
        for second in range(100):
            ring.want("https://slow.example.org/")
            fetching = ring.look_ahead(NOON + second * RETRY_INTERVAL)
        slow_ones = [t for t in fetching if t is ring.sources["https://slow.example.org/"].fetching]
        assert len(slow_ones) == 1
        assert slow_ones[0].is_alive()
