"""Whoever writes to memcached can mislead the brokerage about what a node holds, and do nothing else.

Values with a right checksum and wrong content: only an attacker makes those.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import pytest

from pandawn.filecatalog.v1 import filecatalog_pb2, lookup_pb2
from pandawn_server.catalog.codec import (
    MAX_PARTS,
    Head,
    Record,
    encode_head,
    encode_part,
    encode_records,
)
from pandawn_server.catalog.store import part_key, route_of
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey
from tests.fixtures.besieged import ANSWERS, Besieged, new_request_id, opened_for_attack
from tests.fixtures.memcached import running_memcached
from tests.fixtures.messages import methods, sound
from tests.fixtures.nasty import NOT_UTF8, TEXTS
from tests.fixtures.server import running_servers

METHODS = methods()
BY_NAME = {method.descriptor.name: method for method in METHODS}
KEY = NodeKey("T3", "wn01.example.org")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOST = 2**64 - 1
LIES = [Record(name[:300], name[:300], name[:300], name[:300], 2**63 - 1) for name in TEXTS]


def head(**changes: object) -> bytes:
    """A head with changes from that of an empty cache."""
    values: dict[str, object] = {
        "key": KEY,
        "state": CacheState(1, 1, 1),
        "update_time": NOW,
        "file_count": 0,
        "total_bytes": 0,
        "part_records": 0,
        "appended": 0,
        "parts": (),
        "tail": encode_records([]),
    }
    return encode_head(Head(**{**values, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def poisoned() -> Iterator[Besieged]:
    """A server whose memcached is the attacker's."""
    with running_memcached() as factory, running_servers() as start:
        memcached = factory.start()
        with opened_for_attack(start(catalog=memcached.url), memcached=memcached) as besieged:
            yield besieged


FORGERIES: dict[str, bytes] = {
    "nonsense": b"\x00\xff" * 100,
    "empty": b"",
    "pickle": b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.",
    "not utf-8": NOT_UTF8[0],
    "greatest numbers": head(
        state=CacheState(MOST, 2**63 - 1, MOST),
        file_count=MOST,
        total_bytes=2**128 - 1,
        part_records=MOST,
        appended=2**16 - 1,
        update_time=datetime.max.replace(tzinfo=UTC),
    ),
    "least numbers": head(
        state=CacheState(0, -(2**63), 0), update_time=datetime.min.replace(tzinfo=UTC)
    ),
    "lies in the tail": head(file_count=len(LIES), tail=encode_records(LIES)),
    "parts that are not there": head(parts=tuple(range(MAX_PARTS)), part_records=10**9),
    "too many parts": head(parts=tuple(range(65_535)), part_records=10**9),
    "one part many times": head(parts=(7,) * 65_535, part_records=10**9),
    "a lying part": head(parts=(7,), part_records=len(LIES), file_count=len(LIES)),
    "another node": head(key=NodeKey("T3", "wn02.example.org")),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_value_misleads_and_breaks_nothing(poisoned: Besieged, name: str) -> None:
    assert poisoned.cache is not None
    route = route_of(KEY)
    part = encode_part(7, encode_records(LIES))
    for method in METHODS:
        known = {**poisoned.known(), "request_id": new_request_id()}
        request = sound(method.descriptor.input_type, known)
        poisoned.cache.set(part_key(route, 7), part)
        poisoned.cache.set(route, FORGERIES[name])
        answer = poisoned.call(method, request)
        assert answer.code in ANSWERS, f"{method.path}: {answer}"
    poisoned.check_unharmed()


def test_an_inventory_puts_right_what_was_forged(poisoned: Besieged) -> None:
    assert poisoned.cache is not None
    poisoned.cache.set(route_of(KEY), FORGERIES["lies in the tail"])
    report = BY_NAME["ReportInventory"]
    request = filecatalog_pb2.ReportInventoryRequest(
        header=filecatalog_pb2.InventoryHeader(
            site=KEY.site, node=KEY.node, state=filecatalog_pb2.CacheState(epoch=5, sequence=1)
        )
    )
    assert poisoned.call(report, request).code is grpc.StatusCode.OK
    listing = lookup_pb2.ListNodeFilesRequest(site=KEY.site, node=KEY.node)
    assert not poisoned.call(BY_NAME["ListNodeFiles"], listing).response.files
    poisoned.check_unharmed()
