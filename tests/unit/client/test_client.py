"""The library's client: how long it follows a stream, and how long a reply it takes."""

from __future__ import annotations

import time

import grpc
import pytest

from pandawn.monitor.v1 import monitor_pb2
from pandawn_client import CallError, Client, Patience
from pandawn_client.credentials import NOTHING
from pandawn_server.domain.dispatch.reply_size import MAX_REPLY_BYTES
from tests.fixtures.fake_broker import Failure, FakeBroker

PATIENCE_S = 0.5
BROKEN = Failure(grpc.StatusCode.UNAVAILABLE, message="Socket closed")
REQUEST = monitor_pb2.StreamEventsRequest(follow=True)


def follow(broker: FakeBroker) -> int:
    """The number of replies until the stream ends."""
    patience = Patience(PATIENCE_S, 0.01)
    with Client(broker.address, credentials=NOTHING, patience=patience) as client:
        return sum(1 for _ in client.follow(client.monitor.StreamEvents, lambda: REQUEST))


def test_a_stream_that_was_quiet_for_longer_than_the_patience_is_resumed(
    fake_broker: FakeBroker,
) -> None:
    fake_broker.quiet_s = PATIENCE_S * 1.5
    fake_broker.events += [[monitor_pb2.Event(event_id=n)] for n in (1, 2, 3)]
    fake_broker.failures += [BROKEN, BROKEN]
    assert follow(fake_broker) == 3


def test_a_stream_that_cannot_be_resumed_ends_with_the_patience() -> None:
    begin = time.monotonic()
    patience = Patience(PATIENCE_S, 0.01)
    with (
        Client("127.0.0.1:1", credentials=NOTHING, patience=patience) as client,
        pytest.raises(CallError) as caught,
    ):
        next(client.follow(client.monitor.StreamEvents, lambda: REQUEST))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - begin >= PATIENCE_S * 0.9


def test_a_reply_has_the_limit_that_other_clients_have_too(fake_broker: FakeBroker) -> None:
    for length in (MAX_REPLY_BYTES - 100, MAX_REPLY_BYTES + 1):
        fake_broker.events.append([monitor_pb2.Event(text="x" * length)])
    patience = Patience(PATIENCE_S, 0.01)
    with Client(fake_broker.address, credentials=NOTHING, patience=patience) as client:
        assert len(next(client.follow(client.monitor.StreamEvents, lambda: REQUEST)).events) == 1
        with pytest.raises(CallError) as caught:
            next(client.follow(client.monitor.StreamEvents, lambda: REQUEST))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
