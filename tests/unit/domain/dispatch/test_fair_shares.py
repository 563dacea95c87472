"""Users of one priority band get jobs in turn, whoever submitted first or most."""

from __future__ import annotations

from collections import Counter

import pytest

from pandawn_server.domain.dispatch.fairness import HALF_LIFE_S, Usage, quotas
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import Desk, audit, by_request

ANN = range(1, 401)
BOB = range(1001, 1401)


def desk_with(**users: range) -> Desk:
    desk = Desk()
    for user, numbers in users.items():
        for job_id in numbers:
            desk.add(job_id, user=user)
    return desk


def whose(job_ids: list[int]) -> Counter[str]:
    return Counter("ann" if job_id in ANN else "bob" for job_id in job_ids)


def test_one_job_of_another_user_does_not_wait_for_four_hundred() -> None:
    desk = desk_with(ann=ANN, bob=range(1001, 1002))
    given = [job_id for _ in range(3) for job_id in desk.ask(1)]
    assert 1001 in given
    audit(desk.matchmaker)


def test_two_users_get_as_much_one_request_after_the_other() -> None:
    desk = desk_with(ann=ANN, bob=BOB)
    given = [job_id for _ in range(100) for job_id in desk.ask(1)]
    assert whose(given) == {"ann": 50, "bob": 50}


def test_two_users_get_as_much_of_many_requests_at_once() -> None:
    desk = desk_with(ann=ANN, bob=BOB)
    given = by_request(desk.matched(*(desk.request(node) for node in range(100))))
    assert whose([job_id for job_ids in given.values() for job_id in job_ids]) == {
        "ann": 50,
        "bob": 50,
    }
    audit(desk.matchmaker)


def test_who_had_much_waits_until_the_other_has_caught_up() -> None:
    desk = desk_with(ann=ANN)
    for _ in range(50):
        desk.ask(1)
    for job_id in BOB:
        desk.add(job_id, user="bob")
    given = by_request(desk.matched(*(desk.request(node) for node in range(60))))
    counts = whose([job_id for job_ids in given.values() for job_id in job_ids])
    assert counts["bob"] == 55
    assert counts["ann"] == 5


def test_slots_that_one_user_leaves_are_another_s() -> None:
    desk = desk_with(ann=ANN, bob=range(1001, 1004))
    given = by_request(desk.matched(*(desk.request(node) for node in range(20))))
    counts = whose([job_id for job_ids in given.values() for job_id in job_ids])
    assert counts == {"ann": 17, "bob": 3}


def test_what_only_one_user_s_jobs_can_use_goes_to_that_user() -> None:
    desk = desk_with(ann=ANN)
    for job_id in BOB:
        desk.add(job_id, user="bob", requirements=Requirements(cores=8))
    small = Requirements(cores=1)
    given = by_request(desk.matched(*(desk.request(node, small) for node in range(30))))
    assert whose([job_id for job_ids in given.values() for job_id in job_ids]) == {"ann": 30}


def test_priority_goes_before_shares() -> None:
    desk = desk_with(ann=ANN)
    for _ in range(50):
        desk.ask(1)
    desk.add(1001, user="bob")
    desk.add(400_000, user="ann", priority=1000)
    assert desk.ask(1) == [400_000]


def test_a_user_s_own_jobs_go_by_age() -> None:
    desk = desk_with(ann=ANN, bob=BOB)
    given = [job_id for _ in range(40) for job_id in desk.ask(1)]
    for numbers in (ANN, BOB):
        mine = [job_id for job_id in given if job_id in numbers]
        assert mine == sorted(mine)


def test_of_users_with_about_as_much_the_one_with_files_on_the_node_goes_first() -> None:
    desk = Desk()
    desk.node(1, [7])
    desk.add(1, user="ann")
    assert desk.ask(2) == [1]
    desk.add(2, [7], user="ann")
    desk.add(1001, user="bob")
    assert desk.ask(1) == [2]
    assert desk.ask(1) == [1001]


def test_files_on_a_node_do_not_outweigh_a_large_lead() -> None:
    desk = desk_with(ann=ANN)
    for _ in range(50):
        desk.ask(2)
    desk.node(1, [7])
    desk.add(500, [7], user="ann")
    desk.add(1001, user="bob")
    assert desk.ask(1) == [1001]


def test_the_explanation_says_that_it_was_a_turn() -> None:
    desk = desk_with(ann=ANN, bob=BOB)
    assert desk.only_match(1).rule is MatchRule.FAIR_SHARE
    alone = desk_with(ann=range(1, 3))
    assert alone.only_match(1).rule is MatchRule.AGE


def test_cores_count_and_age_makes_them_count_less() -> None:
    usage = Usage()
    usage.record("ann", 8, 0.0)
    assert usage.of("ann", 0.0) == 8
    assert usage.of("ann", HALF_LIFE_S) == pytest.approx(4)
    assert usage.of("nobody", 5.0) == 0


def test_quotas_even_out_and_never_exceed_what_waits() -> None:
    usage = Usage()
    usage.record("ann", 3, 0.0)
    waiting = {"bob": 100, "carl": 2, "ann": 100}
    assert quotas(usage, ["bob", "carl", "ann"], waiting, 9, 0.0) == {"bob": 5, "carl": 2, "ann": 2}
