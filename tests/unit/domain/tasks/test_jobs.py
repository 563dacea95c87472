from __future__ import annotations

import pytest

from pandawn_server.domain.leases.faults import FAULTS, Count, Fault, Final
from pandawn_server.domain.leases.retries import Tried, judge
from pandawn_server.domain.tasks.jobs import (
    FINAL_STATES,
    LEASED_STATES,
    QUEUED_STATES,
    TRANSITIONS,
    JobState,
    Phase,
    lost_heartbeat,
    state_in_phase,
    states_before,
)
from tests.fixtures.clock import NOON
from tests.fixtures.factories import make_job, node_error, payload_error


def test_every_state_is_in_the_table_and_leads_only_to_states_of_the_table() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {after for reached in TRANSITIONS.values() for after in reached} <= set(JobState)


def test_the_final_states_are_finished_failed_and_cancelled() -> None:
    assert {JobState.FINISHED, JobState.FAILED, JobState.CANCELLED} == FINAL_STATES


def test_every_state_is_queued_leased_or_final_and_no_two_of_them() -> None:
    groups = [*QUEUED_STATES, *LEASED_STATES, *FINAL_STATES]
    assert sorted(state.value for state in groups) == sorted(state.value for state in JobState)


def test_a_final_state_can_be_reached_from_every_other() -> None:
    def reachable(state: JobState) -> set[JobState]:
        found = {state}
        while new := {after for before in found for after in TRANSITIONS[before]} - found:
            found |= new
        return found

    assert all(reachable(state) & FINAL_STATES for state in JobState)


def test_a_job_that_has_not_ended_can_be_cancelled_from_every_state() -> None:
    assert states_before(JobState.CANCELLED) == set(JobState) - FINAL_STATES


def test_the_states_before_are_the_table_read_backwards() -> None:
    for before, reached in TRANSITIONS.items():
        for after in JobState:
            assert (before in states_before(after)) == (after in reached)


def test_only_a_job_with_a_pilot_can_become_runnable_again() -> None:
    assert states_before(JobState.ACTIVATED) - QUEUED_STATES == LEASED_STATES


@pytest.mark.parametrize("current", [s for s in JobState if s in LEASED_STATES])
@pytest.mark.parametrize("phase", list(Phase))
def test_a_phase_never_moves_a_job_back(current: JobState, phase: Phase) -> None:
    after = state_in_phase(current, phase)
    assert after is current or after in TRANSITIONS[current]


def test_stage_out_is_holding() -> None:
    assert state_in_phase(JobState.SENT, Phase.STAGE_OUT) is JobState.HOLDING
    assert state_in_phase(JobState.HOLDING, Phase.PAYLOAD) is JobState.HOLDING
    assert state_in_phase(JobState.SENT, Phase.STAGE_IN) is JobState.RUNNING


@pytest.mark.parametrize("phase", list(Phase))
def test_a_lapsed_lease_names_its_phase(phase: Phase) -> None:
    error = lost_heartbeat(phase)
    assert error.reason == f"LEASE_LAPSED_IN_{phase.name}"
    assert error.code == 100


def test_a_job_that_was_never_heard_of_has_a_reason_of_its_own() -> None:
    error = lost_heartbeat(None)
    assert (error.reason, error.code) == ("LEASE_LAPSED_BEFORE_START", 102)


def test_a_failed_attempt_is_tried_again_until_the_last() -> None:
    tried = [Tried(f"wn{number}", node_error()) for number in range(3)]
    states = [
        judge(make_job(failures=number), tried[: number + 1], (), NOON).state for number in range(3)
    ]
    assert states == [JobState.ACTIVATED, JobState.WAITING, JobState.FAILED]


@pytest.mark.parametrize(
    "reason", sorted(r for r, fault in FAULTS.items() if fault.kind.final is Final.AT_ONCE)
)
def test_what_would_happen_again_is_not_tried_again(reason: str) -> None:
    assert (
        judge(make_job(), [Tried("wn1", payload_error(reason))], (), NOON).state is JobState.FAILED
    )


@pytest.mark.parametrize(
    "reason", sorted(r for r, fault in FAULTS.items() if fault.kind.final is Final.TWO_NODES)
)
def test_what_two_nodes_said_is_not_tried_again_but_two_words_of_one_are_one(reason: str) -> None:
    one, two = Tried("wn1", payload_error(reason)), Tried("wn2", payload_error(reason))
    job = make_job(failures=1)
    assert judge(job, [one, two], (), NOON).state is JobState.FAILED
    assert judge(job, [one, one], (), NOON).state is not JobState.FAILED
    assert judge(job, [one, two], {"wn2"}, NOON).state is not JobState.FAILED


def test_a_job_that_somebody_cancels_is_not_tried_again() -> None:
    job = make_job(cancel_requested=True)
    verdict = judge(job, [Tried("wn1", node_error())], (), NOON)
    assert (verdict.state, verdict.count) == (JobState.CANCELLED, Count.NOTHING)


def test_only_the_nodes_of_the_last_failures_are_avoided_each_once() -> None:
    verdict = judge(
        make_job(avoided=("a", "b", "c", "d", "e", "f", "g", "h")),
        [Tried("c", payload_error())],
        (),
        NOON,
    )
    assert verdict.avoided == ("a", "b", "d", "e", "f", "g", "h", "c")
    assert (verdict.count, verdict.state) == (Count.FAILED, JobState.WAITING)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.reason)
def test_no_attempt_is_repeated_without_a_pause_for_ever(fault: Fault) -> None:
    pauses = [fault.kind.pause(number) for number in range(1, 40)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == fault.kind.longest
