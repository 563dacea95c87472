"""Evidence against nodes: whose jobs failed, how likely they fail elsewhere, and what follows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.leases.faults import FAULTS, Evidence
from pandawn_server.domain.leases.nodes import (
    FIRST_SUSPENSION,
    LONGEST_SUSPENSION,
    MEMORY,
    Condition,
    Elsewhere,
    EndedAttempt,
    Node,
    Probe,
    case_against,
    needs_comparison,
    probe,
    suspension,
)
from tests.fixtures.clock import NOON
from tests.fixtures.factories import node_key

MINUTE = timedelta(minutes=1)


def ended(
    job_id: int, reason: str = "", user: str = "anna", task_id: int = 1, minutes: int = 1
) -> EndedAttempt:
    fault = FAULTS[reason] if reason else None
    when = NOON - 2 * MINUTE * job_id
    return EndedAttempt(job_id, task_id, user, fault, when, MINUTE * minutes)


def going_well(number: int = 10) -> Elsewhere:
    there = Elsewhere()
    for _ in range(number):
        there.record(None, MINUTE)
    return there


def failing(reason: str, number: int = 10) -> Elsewhere:
    there = Elsewhere()
    for _ in range(number):
        there.record(FAULTS[reason])
    return there


def of_users(reason: str, users: str, each: int = 2) -> list[EndedAttempt]:
    return [
        ended(len(users) * turn + number, reason, user, task_id=ord(user))
        for turn in range(each)
        for number, user in enumerate(users)
    ]


def is_enough(window: list[EndedAttempt], there: Elsewhere) -> bool:
    return case_against(window, {a.task_id: there for a in window}).is_enough


COMPARED = sorted(r for r, f in FAULTS.items() if f.kind.evidence is Evidence.COMPARED)
OWN = sorted(r for r, f in FAULTS.items() if f.kind.evidence is Evidence.OWN)
USERS = sorted(r for r, f in FAULTS.items() if f.kind.evidence is Evidence.NONE)


@pytest.mark.parametrize("reason", COMPARED)
def test_what_fails_here_for_two_users_and_goes_well_elsewhere_is_the_nodes(reason: str) -> None:
    window = of_users(reason, "ab")
    assert is_enough(window, going_well())
    assert not is_enough(window, failing(reason))
    assert not is_enough(window, Elsewhere())


@pytest.mark.parametrize("reason", OWN)
def test_what_can_only_be_the_nodes_needs_no_comparison(reason: str) -> None:
    assert is_enough(of_users(reason, "ab"), Elsewhere())


@pytest.mark.parametrize("reason", USERS)
def test_what_is_never_the_nodes_never_counts(reason: str) -> None:
    window = of_users(reason, "abcdef", 5)
    assert not is_enough(window, going_well())
    assert not needs_comparison(window)


@pytest.mark.parametrize("reason", sorted(FAULTS))
def test_no_user_closes_a_node_alone_however_many_his_tasks(reason: str) -> None:
    window = [ended(number, reason, task_id=number) for number in range(40)]
    assert not is_enough(window, going_well())


def test_three_users_do_not_close_a_node_by_how_their_code_ends_but_four_do() -> None:
    assert not is_enough(of_users("PAYLOAD_FAILED", "abc", 12), going_well())
    assert is_enough(of_users("PAYLOAD_FAILED", "abcd"), going_well())


@pytest.mark.parametrize("reason", [*COMPARED, "PAYLOAD_FAILED"])
def test_users_whose_tasks_fail_everywhere_close_no_node(reason: str) -> None:
    assert not is_enough(of_users(reason, "abcdef", 6), failing(reason))


def test_one_more_user_who_does_well_here_speaks_for_the_node() -> None:
    window = of_users("STAGE_IN_FAILED", "ab")
    before = [ended(90 + number, user="carl", task_id=9) for number in range(2)]
    assert is_enough([*window, *before], going_well()), "it broke after that"
    since = [ended(number, user="carl", task_id=9) for number in (-1, -2)]
    assert not is_enough([*since, *window], going_well()), "it works by now"


def test_many_tries_of_one_job_are_one_job() -> None:
    window = [ended(1, "NO_WORK_DIR"), ended(2, "NO_WORK_DIR", "bert")] * 10
    assert not is_enough(window, going_well())


def test_pilots_that_fall_silent_together_are_one_incident() -> None:
    at_once = [
        EndedAttempt(n, n, f"user{n}", FAULTS["LEASE_LAPSED_IN_PAYLOAD"], NOON) for n in range(20)
    ]
    assert not is_enough(at_once, going_well())
    assert is_enough(of_users("LEASE_LAPSED_IN_PAYLOAD", "ab"), going_well())


def test_a_node_on_which_payloads_take_several_times_as_long_is_slow() -> None:
    slow = [ended(n, user="ab"[n % 2], minutes=10) for n in range(4)]
    assert is_enough(slow, going_well())
    rather = [ended(10 + n, user="ab"[n % 2], minutes=3) for n in range(9)]
    assert not is_enough(rather, going_well())
    assert is_enough([*slow, *rather], going_well()), "which says nothing for it"


def test_what_runs_elsewhere_has_started_there() -> None:
    there = Elsewhere()
    for _ in range(5):
        there.record_passed(FAULTS["PAYLOAD_NOT_FOUND"].step)
    assert is_enough(of_users("PAYLOAD_NOT_FOUND", "ab"), there)
    assert not is_enough(of_users("WALL_TIME_EXCEEDED", "ab"), there)


def make_node(**overrides: object) -> Node:
    return Node(node_key(), NOON, **overrides)  # type: ignore[arg-type]


def test_a_suspension_is_followed_by_probation_and_an_operators_is_not() -> None:
    node = make_node(is_suspended=True, until=NOON + MINUTE)
    assert node.condition(NOON) is Condition.SUSPENDED
    assert node.condition(NOON + MINUTE) is Condition.PROBATION
    by_hand = make_node(is_suspended=True)
    assert by_hand.condition(NOON + MEMORY) is Condition.SUSPENDED
    assert make_node(is_drained=True).condition(NOON) is Condition.DRAINED
    assert make_node().condition(NOON) is Condition.OPEN


def test_a_node_that_is_suspended_again_is_so_for_longer_up_to_a_bound_and_that_is_forgotten() -> (
    None
):
    spans = [
        suspension(make_node(suspensions=number, change_time=NOON), NOON)[1] for number in range(8)
    ]
    assert spans[:3] == [FIRST_SUSPENSION, FIRST_SUSPENSION * 2, FIRST_SUSPENSION * 4]
    assert spans[-1] == LONGEST_SUSPENSION
    later = suspension(make_node(suspensions=7, change_time=NOON), NOON + MEMORY)
    assert later == (1, FIRST_SUSPENSION)


@pytest.mark.parametrize(
    ("reason", "there", "said"),
    [
        ("", going_well(), Probe.GOOD),
        ("LOCAL_DISK_FAILED", Elsewhere(), Probe.BAD),
        ("PAYLOAD_NOT_FOUND", going_well(), Probe.BAD),
        ("PAYLOAD_NOT_FOUND", failing("PAYLOAD_NOT_FOUND"), Probe.NOTHING),
        ("PAYLOAD_FAILED", going_well(), Probe.NOTHING),
        ("MEMORY_EXCEEDED", going_well(), Probe.NOTHING),
    ],
)
def test_a_probe_says_something_of_the_node_unless_it_is_its_users(
    reason: str, there: Elsewhere, said: Probe
) -> None:
    assert probe(ended(1, reason), there) is said
