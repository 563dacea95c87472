"""What a match says of itself is true."""

from __future__ import annotations

from datetime import timedelta

from pandawn_server.domain.leases.attempts import Locality, MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import GB, Desk
from tests.fixtures.factories import make_rules, node_key

WAIT = timedelta(minutes=10)


def test_bytes_and_wait_are_told() -> None:
    desk = Desk()
    desk.node(1, [1, 2])
    desk.add(1, [1, 2, 3])
    desk.now = 7
    match = desk.only_match(1)
    assert match.input_bytes == 3 * GB
    assert match.local_bytes == 2 * GB
    assert match.moved_bytes == GB
    assert match.waited == timedelta(seconds=7)
    assert match.locality is Locality.KNOWN


def test_files_on_their_way_are_not_local() -> None:
    desk = Desk()
    desk.node(1)
    desk.add(1, [1])
    desk.ask(1)
    desk.add(2, [1])
    assert desk.only_match(1).local_bytes == 0


def test_hot_files_that_draw_no_job_are_local_all_the_same() -> None:
    desk = Desk()
    for number in range(1, 80):
        desk.node(number, [1])
    desk.add(1, [1])
    assert desk.only_match(1).local_bytes == GB


def test_a_job_from_a_clock_that_is_ahead_has_not_waited() -> None:
    desk = Desk()
    desk.add(1, since=desk.time + timedelta(seconds=5))
    assert desk.only_match(1).waited == timedelta(0)


def test_a_node_of_which_nothing_is_known_is_said_to_be_unknown() -> None:
    desk = Desk()
    desk.add(1, [1])
    assert desk.only_match(1).locality is Locality.UNKNOWN


def test_the_jobs_compared_are_those_of_the_band_that_fit() -> None:
    desk = Desk()
    for job_id in range(4):
        desk.add(job_id)
    desk.add(10, requirements=Requirements(cores=8))
    desk.add(11, priority=-100)
    assert desk.only_match(1, Requirements(cores=1)).candidates == 4


def test_jobs_held_for_other_nodes_are_counted() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.node(2, [2])
    desk.add(1, {1: 10 * GB})
    desk.add(2, {2: 10 * GB})
    desk.add(3)
    # Job 2 is held for node 2 itself.
    match = desk.matches(2, count=2)[-1]
    assert (match.job_id, match.held) == (3, 1)
    assert desk.only_match(1).held == 0


def test_the_rule_is_the_only_candidate_when_no_other_job_fits() -> None:
    desk = Desk()
    desk.add(1, requirements=Requirements(cores=8))
    desk.add(2, priority=1000, requirements=Requirements(cores=8))
    desk.add(3)
    assert desk.only_match(1, Requirements(cores=1)).rule is MatchRule.ONLY_CANDIDATE


def test_the_rule_is_priority_when_others_fit_in_lower_bands_only() -> None:
    desk = Desk()
    desk.add(1)
    desk.add(2, priority=100)
    assert desk.only_match(1).rule is MatchRule.PRIORITY


def test_the_rule_is_local_bytes_when_the_node_holds_most() -> None:
    desk = Desk()
    desk.node(1, [2])
    desk.add(1, [1])
    desk.add(2, [2])
    assert desk.only_match(1).rule is MatchRule.LOCAL_BYTES


def test_the_rule_is_age_among_equals() -> None:
    desk = Desk()
    desk.add(1)
    desk.add(2)
    assert desk.only_match(1).rule is MatchRule.AGE


def test_the_rule_is_neighbour_where_a_task_was_begun() -> None:
    desk = Desk()
    for job_id in range(3):
        desk.add(job_id, [job_id], task_id=1)
    desk.ask(1)
    assert desk.only_match(1).rule is MatchRule.NEIGHBOUR


def test_the_rule_is_spread_when_files_are_elsewhere() -> None:
    desk = Desk()
    desk.node(1, [1])
    desk.add(1, [1])
    desk.add(2, [1])
    assert desk.only_match(2).rule is MatchRule.SPREAD


def test_a_job_of_many_for_one_node_is_local_to_it_however_it_was_found() -> None:
    desk = Desk()
    desk.node(1, [1])
    for job_id in range(1500):
        desk.add(job_id, [1])
    # More than its list keeps.
    rules = {match.rule for match in desk.matches(1, count=1400)}
    assert rules == {MatchRule.LOCAL_BYTES}


def test_the_rule_is_held_when_it_was_kept_for_the_node() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    desk.node(1, [1])
    desk.add(1, {1: 10 * GB})
    desk.add(2)
    assert desk.only_match(1).rule is MatchRule.HELD


def test_the_rule_is_priority_when_a_held_job_goes_before_a_lower_band() -> None:
    desk = Desk(make_rules(locality_wait=WAIT))
    for number in (1, 2):
        desk.node(number, [number])
        desk.add(number, {number: 10 * GB}, priority=100)
    desk.add(3)
    match = desk.only_match(9)
    assert (match.job_id, match.rule, match.held) == (1, MatchRule.PRIORITY, 1)
    assert desk.held_for(2) == node_key(2)
