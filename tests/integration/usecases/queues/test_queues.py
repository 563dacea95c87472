from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.errors import AbortedError, InvalidRequestError, NotFoundError
from pandawn_server.domain.queues.queues import (
    PARAMETERS,
    SETTING_NAMES,
    Parameter,
    PayloadIsolation,
    QueueSettings,
    QueueStatus,
    Value,
)
from pandawn_server.domain.queues.revisions import Action
from pandawn_server.usecases.queues.configure import get_queue, list_queues
from tests.fixtures.config import apply_queue
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.world import World


def test_a_queue_that_is_applied_first_is_created_with_defaults_for_the_rest(world: World) -> None:
    (change,) = apply_queue(world.context, "NEW", QueueSettings(cores=8), {"cores"}).changes
    assert change.action is Action.CREATE
    queue = get_queue(world.context, "NEW")
    assert (queue.cores, queue.site, queue.status) == (8, "NEW", QueueStatus.ONLINE)
    assert queue.update_time == world.clock.now


def other_value(parameter: Parameter) -> Value:
    """A value that is not the default."""
    default, bounds = parameter.default, parameter.bounds
    if bounds is not None:
        return bounds.low if default != bounds.low else bounds.high
    if isinstance(default, bool):
        return not default
    others: dict[type, Value] = {
        str: f"ä {parameter.name}",
        tuple: ("b", "a", ""),
        QueueStatus: QueueStatus.TEST,
        PayloadIsolation: PayloadIsolation.REQUIRED,
    }
    return others.get(parameter.type, {"B": "2", "A": ""})


def test_every_parameter_comes_back_as_it_was_set(world: World) -> None:
    special = {"pilot_methods": ("x509",), "pilot_networks": ("192.0.2.0/24",)}
    special["immutable_scopes"] = ("data25=root://se.example.org//atlas/data25",)
    settings = QueueSettings(
        **{name: special.get(name) or other_value(p) for name, p in PARAMETERS.items()}
    )
    apply_queue(world.context, "Q", settings, SETTING_NAMES)
    queue = get_queue(world.context, "Q")
    # From the database, as another process reads it.
    again = get_queue(world.beside(world.db).context, "Q")
    assert again == queue
    for name, value in settings.items():
        # A heartbeat is never longer than a third of the lease, which is at its shortest here.
        expected = timedelta(seconds=5) / 3 if name == "heartbeat_interval" else value
        assert getattr(queue, name) == expected, name


def test_only_what_the_mask_names_is_changed_and_what_is_not_given_is_reset(world: World) -> None:
    world.queue(cores=8, cloud="DE")
    settings = QueueSettings(cloud="FR", priority_band=5)
    (change,) = apply_queue(world.context, QUEUE, settings, {"cores", "cloud"}).changes
    assert change.action is Action.CHANGE
    queue = get_queue(world.context, QUEUE)
    assert (queue.cores, queue.cloud) == (1, "FR")
    assert queue.priority_band == 100
    assert queue.site == SITE


def test_a_stale_etag_changes_nothing(world: World) -> None:
    old = get_queue(world.context, QUEUE)
    new = world.queue(cores=4)
    assert new.etag != old.etag
    with pytest.raises(AbortedError) as caught:
        apply_queue(world.context, QUEUE, QueueSettings(cores=9), {"cores"}, old.etag)
    assert caught.value.reason == "STALE_ETAG"
    assert get_queue(world.context, QUEUE) == new
    apply_queue(world.context, QUEUE, QueueSettings(cores=9), {"cores"}, new.etag)
    assert get_queue(world.context, QUEUE).cores == 9


def test_an_etag_of_a_queue_that_does_not_exist_creates_none(world: World) -> None:
    with pytest.raises(AbortedError, match="does not exist"):
        apply_queue(world.context, "GONE", QueueSettings(), (), "etag")
    with pytest.raises(NotFoundError):
        get_queue(world.context, "GONE")


def test_applying_what_is_so_already_changes_neither_etag_nor_time_and_tells_nothing(
    world: World,
) -> None:
    before, told = world.queue(cores=4), world.told()
    world.advance(hours=1)
    assert world.queue(cores=4) == before
    assert world.told() == told


def test_a_change_is_told_by_the_names_of_what_changed(world: World) -> None:
    world.queue(cores=4, cloud="DE", site=SITE)
    with world.db.read() as tx:
        last = tx.exec_driver_sql("SELECT text FROM events ORDER BY event_id DESC LIMIT 1").scalar()
    assert last == f"queue {QUEUE} was changed: cloud, cores"


def test_parameters_out_of_bounds_are_all_named_and_nothing_is_written(world: World) -> None:
    bad = QueueSettings(cores=0, locality_wait=timedelta(hours=2))
    with pytest.raises(InvalidRequestError) as caught:
        apply_queue(world.context, QUEUE, bad, {"cores", "locality_wait"})
    assert len(caught.value.violations) == 2
    assert get_queue(world.context, QUEUE).cores == 1


def test_queues_come_by_name_in_pages_and_by_site(world: World) -> None:
    for name in ("B", "A", "C"):
        world.queue(name, site="S" if name != "C" else None)
    first = list_queues(world.context, "", 2, "")
    rest = list_queues(world.context, first[-1].name, 10, "")
    assert [queue.name for queue in first + rest] == ["A", QUEUE, "B", "C"]
    assert [queue.name for queue in list_queues(world.context, "", 10, "S")] == ["A", "B"]
    assert [queue.name for queue in list_queues(world.context, "", 10, "C")] == ["C"]


def test_an_unknown_queue_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError) as caught:
        get_queue(world.context, "NOWHERE")
    assert caught.value.reason == "QUEUE_NOT_FOUND"
