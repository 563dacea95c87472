from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pandawn_server.domain.catalog.inventory import (
    CacheState,
    Delta,
    DeltaResult,
    delta_result,
)
from pandawn_server.domain.leases.leases import Lease, is_current, server_was_away
from pandawn_server.domain.queues.queues import (
    LONGEST_HEARTBEAT,
    MIB,
    SETTING_NAMES,
    QueueSettings,
    QueueStatus,
    bound_violations,
    merged,
)
from pandawn_server.domain.tasks.jobs import JobKind, JobState
from tests.fixtures.clock import NOON
from tests.fixtures.factories import make_queue, node_key, seconds_after_noon

LEASE = Lease(
    job_id=1,
    attempt=2,
    token="secret",
    pilot_id="pilot",
    key=node_key(),
    expire_time=NOON,
    duration=timedelta(minutes=10),
    phase=None,
    job_state=JobState.SENT,
    job_kind=JobKind.RUN,
    task_id=1,
    cancel_requested=False,
)
EVERY = timedelta(seconds=5)


def test_a_lease_is_proved_by_attempt_and_token_together() -> None:
    assert is_current(LEASE, 2, "secret")
    assert not is_current(LEASE, 1, "secret")
    assert not is_current(LEASE, 2, "secreT")
    assert not is_current(LEASE, 2, "")
    assert not is_current(None, 2, "secret")


def test_a_token_may_hold_any_character() -> None:
    assert not is_current(LEASE, 2, "gehäuse")


def test_a_server_that_never_ran_was_away() -> None:
    assert server_was_away(None, NOON, EVERY)


def test_a_server_that_looks_as_often_as_it_should_was_not_away() -> None:
    assert not server_was_away(NOON, seconds_after_noon(15), EVERY)
    assert server_was_away(NOON, seconds_after_noon(15.1), EVERY)


def test_unset_parameters_take_the_defaults_of_the_slides() -> None:
    queue = make_queue("Q", site=None, storage_root=None)
    assert queue.site == "Q"
    assert queue.status is QueueStatus.ONLINE
    assert queue.max_input_bytes == 14336 * MIB
    assert queue.locality_wait == timedelta(0)


def test_a_lease_outlives_two_lost_heartbeats_and_a_cancel_is_heard_in_seconds() -> None:
    short = make_queue(lease_duration=timedelta(seconds=6))
    assert short.heartbeat_interval == timedelta(seconds=2)
    assert make_queue(lease_duration=timedelta(days=1)).heartbeat_interval == LONGEST_HEARTBEAT


def test_zero_is_a_value_and_not_unset() -> None:
    assert make_queue(max_input_bytes=0).max_input_bytes == 0


def test_a_mask_takes_only_what_it_names_and_can_unset() -> None:
    old = QueueSettings(site="A", cores=8, cloud="DE")
    new = QueueSettings(site="B", cloud="FR")
    assert merged(old, new, {"site", "cores"}) == QueueSettings(site="B", cores=None, cloud="DE")
    assert merged(old, new, SETTING_NAMES) == new
    assert merged(old, new, ()) == old


def test_every_parameter_out_of_bounds_is_named() -> None:
    settings = QueueSettings(cores=0, lease_duration=timedelta(seconds=1), priority_band=0)
    fields = {violation.field for violation in bound_violations(settings)}
    assert fields == {"cores", "lease_duration", "priority_band"}
    assert not bound_violations(QueueSettings())


KNOWN = CacheState(epoch=7, sequence=10, digest=0)


def _delta(epoch: int, sequence: int) -> Delta:
    return Delta(node_key(), epoch, sequence)


def test_deltas_apply_in_their_order_and_once() -> None:
    assert delta_result(KNOWN, _delta(7, 11)) is DeltaResult.APPLIED
    assert delta_result(KNOWN, _delta(7, 10)) is DeltaResult.REPEATED
    assert delta_result(KNOWN, _delta(7, 1)) is DeltaResult.REPEATED


def test_a_gap_asks_for_an_inventory() -> None:
    assert delta_result(KNOWN, _delta(7, 12)) is DeltaResult.INVENTORY_REQUESTED


def test_another_life_of_a_cache_begins_with_its_first_change_or_an_inventory() -> None:
    assert delta_result(KNOWN, _delta(8, 1)) is DeltaResult.APPLIED
    assert delta_result(KNOWN, _delta(8, 2)) is DeltaResult.INVENTORY_REQUESTED
    assert delta_result(None, _delta(8, 1)) is DeltaResult.APPLIED
    assert delta_result(None, _delta(8, 5)) is DeltaResult.INVENTORY_REQUESTED


def test_a_lease_of_another_attempt_is_another_lease() -> None:
    assert not is_current(replace(LEASE, attempt=3), 2, "secret")
