"""A repeated `SetOverride` is the same override: it holds no longer, and is no second revision."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pandawn_server.domain.errors import ConflictError
from pandawn_server.domain.queues.queues import QueueSettings
from pandawn_server.domain.queues.revisions import Author
from pandawn_server.usecases.queues.configure import get_queue, list_overrides
from pandawn_server.usecases.queues.history import list_revisions
from pandawn_server.usecases.queues.overrides import set_override
from tests.fixtures.factories import QUEUE
from tests.fixtures.world import World

ANNA, BERTA = Author("anna"), Author("berta")
HOUR = timedelta(hours=1)


def override(
    world: World,
    request_id: str = "r",
    *,
    cores: int = 8,
    end: timedelta | datetime = HOUR,
    by: Author = ANNA,
) -> int:
    settings = QueueSettings(cores=cores)
    fingerprint = f"{settings} {end}"
    return set_override(world.context, request_id, fingerprint, QUEUE, settings, end, by)[1]


def ends(world: World) -> list[datetime]:
    found = list_overrides(world.context, ("", ""), 100, "")
    return [one.override.expire_time for one in found]


def test_a_repeated_override_holds_no_longer_and_makes_no_revision(world: World) -> None:
    end = world.clock.now + HOUR
    first = override(world)
    world.advance(minutes=10)
    assert override(world) == first
    assert ends(world) == [end]
    assert list_revisions(world.context, 0, 1, None)[0].revision == first


def test_another_server_gives_the_same_answer(world: World) -> None:
    first = override(world)
    other = world.beside(world.db)
    assert override(other) == first
    assert list_revisions(other.context, 0, 1, None)[0].revision == first


def test_a_repeated_override_may_come_after_its_end(world: World) -> None:
    end = world.clock.now + HOUR
    first = override(world, end=end)
    world.advance(hours=2)
    assert override(world, end=end) == first
    assert get_queue(world.context, QUEUE).cores == 1


def test_the_same_request_id_with_other_parameters_is_refused(world: World) -> None:
    override(world)
    for other in ({"cores": 4}, {"end": 2 * HOUR}):
        with pytest.raises(ConflictError) as refused:
            override(world, **other)
        assert refused.value.reason == "REQUEST_ID_REUSED"
    assert get_queue(world.context, QUEUE).cores == 8


def test_two_administrators_may_draw_the_same_request_id(world: World) -> None:
    first = override(world, by=ANNA)
    assert override(world, by=BERTA) == first + 1


def test_a_new_request_id_is_a_new_override(world: World) -> None:
    first = override(world, "r1")
    world.advance(minutes=10)
    assert override(world, "r2") == first + 1
    assert ends(world) == [world.clock.now + HOUR]
