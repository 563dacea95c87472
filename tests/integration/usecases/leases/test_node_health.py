"""Nodes are suspended by evidence over users, come back by probes, and do as operators say, at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.leases.nodes import FIRST_SUSPENSION, GOOD_PROBES, Condition
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.domain.tasks.jobs import JobError, JobState, Phase
from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.dispatch.round import SUSPENDED_RETRY
from pandawn_server.usecases.leases.control_nodes import remove_node, set_condition
from pandawn_server.usecases.monitor import read
from tests.fixtures.factories import make_input, node_error, node_key, payload_error
from tests.fixtures.world import LEASE, World, success

NODE = node_key(1)
BROKEN = node_error("LOCAL_DISK_FAILED")


def take_all(world: World, node: int, number: int = 40) -> None:
    """A node finishes what there is."""
    for grant in world.acquire(world.pilot(node), number):
        world.finish(grant)


def fail_here(world: World, error: JobError, users: str, each: int = 2, node: int = 1) -> None:
    """Jobs of some users fail on a node."""
    for user in users:
        world.submit_jobs(each, user=user, dataset=f"fails.{user}.{world.new_request_id()}")
    for grant in world.acquire(world.pilot(node), each * len(users)):
        world.fail(grant, error)


def condition(world: World, number: int = 1) -> Condition:
    views = read.list_nodes(world.context, None, 100, "")
    return next(v.condition for v in views if v.node.key == node_key(number))


def test_a_broken_node_gets_no_jobs_and_an_operator_can_read_why(world: World) -> None:
    fail_here(world, BROKEN, "ab")
    assert condition(world) is Condition.SUSPENDED
    answer = world.ask(world.pilot(1))
    assert answer.grants == ()
    assert answer.retry_after == SUSPENDED_RETRY
    assert "LOCAL_DISK_FAILED" in answer.idle_reason
    (view,) = read.list_nodes(world.context, None, 10, "")
    assert "4 jobs of 2 users" in view.node.reason
    assert len(view.node.evidence) == 4
    assert "NODE_SUSPENDED" in world.told()
    assert len(world.acquire(world.pilot(2))) == 1


# Which reasons count is no question of the engine; that several users' mistakes do not is asked on both below.
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "reason",
    [
        "INPUT_MISSING",
        "INPUT_UNREADABLE",
        "WALL_TIME_EXCEEDED",
        "MEMORY_EXCEEDED",
        "WORK_DIR_TOO_LARGE",
        "BAD_ARCHIVE",
        "PAYLOAD_FAILED",
        "PAYLOAD_NOT_FOUND",
        "OUTPUT_MISSING",
        "NO_LOCAL_SPACE",
        "WRAPPER_VANISHED",
    ],
)
def test_one_user_closes_no_node_however_many_his_tasks(world: World, reason: str) -> None:
    for _ in range(4):
        fail_here(world, payload_error(reason), "a", each=5)
    assert condition(world) is Condition.OPEN
    world.submit_jobs(1, user="bob", dataset="good")
    assert len(world.acquire(world.pilot(1), 40)) > 0


@pytest.mark.parametrize("reason", ["INPUT_MISSING", "WALL_TIME_EXCEEDED", "PAYLOAD_FAILED"])
def test_the_mistakes_of_several_users_at_once_close_no_node(world: World, reason: str) -> None:
    for node in (1, 2, 3, 1, 2, 3):
        fail_here(world, payload_error(reason), "abc", each=3, node=node)
        world.advance(minutes=1)
    assert {condition(world, node) for node in (1, 2, 3)} == {Condition.OPEN}


def test_a_node_that_lacks_a_program_which_others_have_is_suspended(world: World) -> None:
    for user in "ab":
        world.submit_jobs(8, user=user, dataset=f"d.{user}")
        take_all(world, 2, 6)
        for grant in world.acquire(world.pilot(1), 2):
            world.fail(grant, payload_error("PAYLOAD_NOT_FOUND"))
        take_all(world, 2)
    assert condition(world) is Condition.SUSPENDED
    assert JobState.FAILED not in world.states()


def test_a_node_whose_payloads_take_several_times_as_long_is_suspended(world: World) -> None:
    def finish(node: int, number: int, minutes: int) -> None:
        for grant in world.acquire(world.pilot(node), number):
            spent = {Phase.PAYLOAD: timedelta(minutes=minutes)}
            world.report(success(grant, phase_times=spent))

    for user in "ab":
        world.submit_jobs(8, user=user, dataset=f"d.{user}")
        finish(2, 6, 10)
        finish(1, 2, 60)
    assert condition(world) is Condition.SUSPENDED


def on_probation(world: World) -> None:
    fail_here(world, BROKEN, "ab")
    world.advance(seconds=FIRST_SUSPENSION.total_seconds())
    assert condition(world) is Condition.PROBATION


def test_a_suspended_node_comes_back_after_three_good_jobs_one_at_a_time(world: World) -> None:
    on_probation(world)
    pilot, other = world.pilot(1), world.pilot(1)
    for _ in range(GOOD_PROBES):
        (grant,) = world.acquire(pilot, 8)
        assert "one job at a time" in world.ask(other).idle_reason
        world.finish(grant)
    assert condition(world) is Condition.OPEN
    assert "NODE_RESUMED" in world.told()
    world.submit_jobs(4, user="zoe", dataset="later")
    assert len(world.acquire(pilot, 8)) > 1


def test_two_pilots_of_a_node_on_probation_that_ask_at_once_get_one_job(world: World) -> None:
    on_probation(world)
    calls = [world.call(world.pilot(1), 4) for _ in range(3)]
    answers = world.ask_all(calls)
    assert sum(len(getattr(answer, "grants", ())) for answer in answers) == 1


def test_a_probe_that_fails_suspends_the_node_for_longer(world: World) -> None:
    on_probation(world)
    world.fail(world.take(world.pilot(1)), BROKEN)
    assert condition(world) is Condition.SUSPENDED
    world.advance(seconds=FIRST_SUSPENSION.total_seconds())
    assert condition(world) is Condition.SUSPENDED
    world.advance(seconds=FIRST_SUSPENSION.total_seconds())
    assert condition(world) is Condition.PROBATION


def test_a_users_mistake_on_probation_says_nothing(world: World) -> None:
    on_probation(world)
    world.fail(world.take(world.pilot(1)), payload_error("PAYLOAD_FAILED"))
    assert condition(world) is Condition.PROBATION


def test_pilots_that_die_one_after_the_other_suspend_their_node(world: World) -> None:
    for user in "abab":
        world.submit_jobs(1, user=user, dataset=world.new_request_id())
        world.begin(world.pilot(1))
        for grant in world.acquire(world.pilot(2)):
            world.finish(grant)
        world.pass_time_with_server_up(LEASE * 1.5)
        take_all(world, 2)
    # Each was another task, of which nothing is known elsewhere: no evidence.
    assert condition(world) is Condition.OPEN


def control(world: World, wanted: Condition, why: str = "a new disk") -> Condition:
    return set_condition(world.context, NODE, wanted, why, LOCAL_OPERATOR)


def test_an_operator_suspends_and_resumes_a_node_at_once(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot(1)
    control(world, Condition.SUSPENDED)
    answer = world.ask(pilot)
    assert answer.grants == ()
    assert not answer.drain
    assert "a new disk" in answer.idle_reason
    world.advance(hours=100)
    world.queue()
    assert condition(world) is Condition.SUSPENDED
    control(world, Condition.OPEN, "it is in")
    assert len(world.acquire(world.pilot(1))) == 1
    assert [kind for kind in world.told() if kind.startswith("NODE_")] == [
        "NODE_SUSPENDED",
        "NODE_RESUMED",
    ]


def test_an_operator_opens_a_node_that_evidence_had_closed(world: World) -> None:
    fail_here(world, BROKEN, "ab")
    control(world, Condition.OPEN)
    assert len(world.acquire(world.pilot(1), 8)) == 4
    assert condition(world) is Condition.OPEN


def test_a_drained_node_finishes_and_its_pilots_are_told_to_end(world: World) -> None:
    world.submit_jobs(2)
    pilot, idle = world.pilot(1), world.pilot(1)
    (grant,) = world.begin(pilot)
    control(world, Condition.DRAINED)
    assert world.heartbeat(pilot, grant).drain
    answer = world.ask(idle)
    assert (answer.grants, answer.drain) == ((), True)
    assert world.finish(grant) is JobState.FINISHED
    assert not world.heartbeat(world.pilot(2)).drain


def test_a_pilot_that_waits_hears_at_once_that_its_node_is_drained(world: World) -> None:
    pilot = world.pilot(1)
    call = world.call(pilot)._replace(waits=True)
    world.ask_all([call])
    control(world, Condition.DRAINED)
    ((key, answer),) = world.serve_polls()
    assert key == call.key
    assert answer.drain
    assert "a new disk" in answer.idle_reason


def test_a_removed_node_is_forgotten_and_its_jobs_go_elsewhere_without_a_failure(
    world: World,
) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    pilot = world.pilot(1)
    world.begin(pilot)
    world.keep(NODE, make_input(1, 1000))
    removed = remove_node(world.context, NODE, "burnt", LOCAL_OPERATOR, unpin=False)
    assert (removed.jobs, removed.files) == (1, 1)
    assert read.list_nodes(world.context, None, 10, "") == []
    with world.db.read() as tx:
        assert pilots.get_pilots(tx, [pilot.pilot_id])[pilot.pilot_id].state is PilotState.ENDED
    found = world.job(job.job_id)
    assert (found.state, found.failures, found.losses) == (JobState.ACTIVATED, 0, 1)
    assert world.finish(world.take(world.pilot(2))) is JobState.FINISHED


def test_a_node_that_was_never_heard_of_cannot_be_changed(world: World) -> None:
    with pytest.raises(NotFoundError):
        control(world, Condition.DRAINED)
    with pytest.raises(NotFoundError):
        remove_node(world.context, NODE, "x", LOCAL_OPERATOR, unpin=False)


def test_a_user_whose_jobs_fail_on_one_node_only_gets_no_more_of_it_and_others_do(
    world: World,
) -> None:
    world.submit_jobs(12, user="ann", dataset="d.ann")
    take_all(world, 2, 6)
    for grant in world.acquire(world.pilot(1), 2):
        world.fail(grant, payload_error("PAYLOAD_NOT_FOUND"))
    assert condition(world) is Condition.OPEN
    assert world.acquire(world.pilot(1), 8) == ()
    world.submit_jobs(1, user="bob", dataset="d.bob")
    (grant,) = world.acquire(world.pilot(1), 8)
    assert grant.job.user == "bob"
    assert len(world.acquire(world.pilot(2), 40)) > 0
