"""Jobs that failed on nodes go to others, while there are any, and not for ever."""

from __future__ import annotations

from dataclasses import replace

from pandawn_server.domain.dispatch.avoiding import AVOID_S
from pandawn_server.domain.dispatch.values import Request
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.dispatch import GB, Desk
from tests.fixtures.factories import node_key


def failed_on(*numbers: int) -> frozenset[str]:
    return frozenset(node_key(number).node for number in numbers)


def test_a_job_is_not_given_to_a_node_on_which_it_failed_while_there_is_another() -> None:
    desk = Desk()
    desk.node(1)
    desk.node(2)
    desk.add(1, avoids=failed_on(1))
    assert desk.ask(1) == []
    assert desk.ask(2) == [1]


def test_a_node_whose_jobs_avoid_it_gets_others() -> None:
    desk = Desk()
    desk.node(2)
    desk.add(1, avoids=failed_on(1))
    desk.add(2)
    assert desk.ask(1, count=2) == [2]


def test_where_there_is_no_other_live_node_the_job_goes_where_it_failed() -> None:
    desk = Desk()
    desk.node(1)
    desk.node(2, live=False)
    desk.add(1, avoids=failed_on(1))
    assert desk.ask(1) == [1]


def test_a_job_that_waited_long_for_another_node_goes_anywhere() -> None:
    desk = Desk()
    desk.node(2)
    desk.add(1, avoids=failed_on(1))
    desk.now = AVOID_S - 1
    assert desk.ask(1) == []
    desk.now = AVOID_S
    assert desk.ask(1) == [1]


def test_a_job_that_avoids_a_node_goes_to_a_request_that_waits_on_another() -> None:
    desk = Desk()
    assert desk.matched(desk.request(1), desk.request(2, name="waits")) == []
    desk.add(1, avoids=failed_on(1))
    assert [a.request_id for a in desk.matched()] == ["waits"]


def test_it_needs_what_it_needs_and_does_not_go_before_a_higher_band() -> None:
    desk = Desk()
    desk.node(1)
    desk.add(1, avoids=failed_on(1), requirements=Requirements(memory_bytes=8 * GB))
    desk.add(2, priority=1000)
    assert desk.ask(2, Requirements(memory_bytes=4 * GB)) == [2]
    assert desk.ask(2, Requirements(memory_bytes=4 * GB)) == []
    assert desk.ask(2, Requirements(memory_bytes=8 * GB)) == [1]


def test_one_that_is_given_back_avoids_the_node_still() -> None:
    desk = Desk()
    desk.node(1)
    desk.add(1, avoids=failed_on(1))
    assert desk.ask(2) == [1]
    assert desk.matchmaker.give_back([1], desk.time) == []
    assert desk.ask(1) == []
    assert desk.ask(2) == [1]
    assert len(desk.matchmaker) == 0


def test_one_that_is_cancelled_is_forgotten() -> None:
    desk = Desk()
    desk.add(1, avoids=failed_on(1))
    assert 1 in desk.matchmaker
    desk.matchmaker.remove([1])
    assert 1 not in desk.matchmaker
    assert desk.ask(2) == []


def doubting(desk: Desk, node: int, *users: str) -> Request:
    return replace(desk.request(node), doubts=frozenset(users))


def given(desk: Desk, *requests: Request) -> list[int]:
    return [assignment.match.job_id for assignment in desk.matched(*requests)]


def test_a_node_gets_no_jobs_of_a_user_whose_jobs_fail_on_it_but_others_do() -> None:
    desk = Desk()
    desk.node(2)
    desk.add(1, user="anna")
    desk.add(2, user="bert")
    asks = doubting(desk, 1, "anna")
    assert given(desk, asks) == [2]
    assert given(desk, doubting(desk, 1, "anna")) == []
    assert desk.ask(2) == [1]


def test_a_request_that_waits_doubts_too() -> None:
    desk = Desk()
    desk.node(2)
    assert given(desk, doubting(desk, 1, "anna")) == []
    desk.add(1, user="anna")
    assert given(desk) == []
    desk.add(2, user="bert")
    assert given(desk) == [2]


def test_the_only_live_node_doubts_nobody() -> None:
    desk = Desk()
    desk.add(1, user="anna")
    assert given(desk, doubting(desk, 1, "anna")) == [1]
