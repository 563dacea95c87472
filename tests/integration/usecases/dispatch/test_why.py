from __future__ import annotations

from datetime import timedelta

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.factories import make_input, make_inputs, node_key, payload_error
from tests.fixtures.world import World

GIB = 2**30


def predicates(world: World, job_id: int) -> dict[str, int]:
    return {o.predicate: o.excluded_nodes for o in world.why(job_id).obstacles}


def test_without_pilots_nobody_can_take_a_job(world: World) -> None:
    world.submit_jobs(1)
    found = world.why(1)
    assert predicates(world, 1) == {"NO_LIVE_PILOT": 0}
    assert found.summary.startswith("no node can take it: the queue has no live pilot")
    assert found.node_count == 0


def test_a_job_that_is_next_has_no_obstacles(world: World) -> None:
    world.submit_jobs(1)
    world.pilot(1)
    found = world.why(1)
    assert (found.obstacles, found.node_count, found.jobs_ahead) == ([], 1, 0)
    assert "is next" in found.summary
    assert found.match is None


def test_that_no_copies_count_of_inputs_whose_version_nobody_told_is_said(world: World) -> None:
    unknown = make_input(1, checksum="", version="")
    world.submit(inputs=(unknown, make_input(2)), files_per_job=2)
    world.submit(inputs=(make_input(2),), dataset="user.anna.other")
    world.pilot(1)
    found = world.why(1)
    assert found.unversioned_inputs == 1
    assert "1 of its 2 input files had neither a checksum nor a modification time" in found.summary
    other = world.why(2)
    assert other.unversioned_inputs == 0
    assert "checksum" not in other.summary


def test_jobs_that_go_before_are_counted_by_priority_and_age(world: World) -> None:
    world.queue("OTHER")
    world.submit_jobs(3)
    world.submit_jobs(2, priority=10)
    world.submit_jobs(4, queue="OTHER")
    world.submit_jobs(1, priority=-1)
    world.pilot(1)
    assert [world.why(job_id).jobs_ahead for job_id in (1, 2, 4, 10)] == [2, 3, 0, 5]


def test_each_requirement_that_no_node_meets_is_named_with_what_would_help(world: World) -> None:
    world.submit_jobs(1, requirements=Requirements(memory_bytes=8 * GIB, cores=16))
    for node, memory in ((1, 2), (2, 4), (3, 9)):
        world.ask(world.pilot(node), offer=Requirements(memory_bytes=memory * GIB, cores=8))
    found = world.why(1)
    assert predicates(world, 1) == {"CORES": 3, "MEMORY": 2}
    assert found.summary.startswith("no node can take it: the job needs 16 cores")
    assert found.summary.endswith(f"nearest is {node_key(3).node}: ask for at most 8 cores")
    remedies = {obstacle.predicate: obstacle.remedy for obstacle in found.obstacles}
    assert f"at most {4 * GIB:,} bytes (4.0 GiB) of memory" in remedies["MEMORY"]


def test_a_requirement_that_only_some_nodes_meet_excludes_the_others(world: World) -> None:
    world.submit_jobs(1, requirements=Requirements(wall_time=timedelta(hours=10)))
    world.ask(world.pilot(1), offer=Requirements(wall_time=timedelta(hours=1)))
    world.pilot(2)
    assert predicates(world, 1) == {"WALL_TIME": 1}
    assert "only some of the 2 nodes" in world.why(1).summary


def test_an_input_limit_that_was_lowered_after_submission_is_told(world: World) -> None:
    world.submit(inputs=make_inputs(1, 5 * GIB))
    world.queue(max_input_bytes=GIB)
    world.pilot(1)
    assert predicates(world, 1) == {"QUEUE_INPUT_LIMIT": 1}
    assert world.acquire(world.pilot(1)) == ()


def test_an_offline_queue_is_told(world: World) -> None:
    world.submit_jobs(1)
    world.pilot(1)
    world.queue(status=QueueStatus.OFFLINE)
    assert predicates(world, 1) == {"QUEUE_OFFLINE": 1}
    assert "set it online" in world.why(1).summary


def test_a_paused_queue_and_one_in_test_are_told_but_not_to_tests(world: World) -> None:
    (job,) = world.submit_jobs(1)
    (test,) = world.submit_jobs(1, test=True)
    world.pilot(1)
    world.queue(status=QueueStatus.PAUSED)
    assert predicates(world, job.job_id) == predicates(world, test.job_id) == {"QUEUE_PAUSED": 1}
    world.queue(status=QueueStatus.TEST)
    assert predicates(world, job.job_id) == {"QUEUE_TEST": 1}
    assert predicates(world, test.job_id) == {}


def test_a_suspended_node_is_told_with_its_reason(world: World) -> None:
    world.submit_jobs(1)
    world.pilot(2)
    world.suspend(2)
    found = world.why(1)
    assert predicates(world, 1) == {"NODE_SUSPENDED": 1}
    assert node_key(2).node in found.obstacles[0].detail
    assert found.summary.startswith("no node can take it")


def test_a_waiting_job_waits_for_its_build(world: World) -> None:
    sandbox_id, _ = store_sandbox(world.context, [b"\x1f\x8bcode"], LOCAL_OPERATOR)
    world.submit(build=True, sandbox_id=sandbox_id)
    assert world.why(2).summary == "waits for the build job of its task"


def test_a_running_job_tells_why_it_went_to_its_node(world: World) -> None:
    world.submit_jobs(2)
    world.advance(seconds=7)
    pilot = world.pilot(3)
    grant = world.take(pilot)
    world.renew(pilot, grant)
    found = world.why(1)
    assert found.summary.startswith(f"runs now; it was given to {node_key(3).node} because")
    assert "runnable for 7.0 s" in found.summary
    assert found.match == grant.match
    assert found.match is not None
    assert (found.match.rule, found.match_node) == (MatchRule.AGE, node_key(3).node)


def test_a_job_that_is_being_killed_says_so(world: World) -> None:
    world.submit_jobs(1)
    world.take()
    world.cancel(1)
    assert "asked to stop" in world.why(1).summary


def test_a_job_that_is_tried_again_still_tells_of_its_last_attempt(world: World) -> None:
    world.submit_jobs(1)
    world.fail(world.take(world.pilot(1)))
    found = world.why(1)
    assert found.match_node == node_key(1).node
    assert found.job.error is not None


def test_jobs_that_have_ended_tell_how(world: World) -> None:
    world.submit_jobs(3, max_attempts=1)
    pilot = world.pilot(1)
    finished, failed = world.acquire(pilot, 2)
    world.finish(finished)
    world.fail(failed, payload_error(text="exit status 9"))
    world.cancel(3)
    said = [world.why(job_id).summary for job_id in (1, 2, 3)]
    assert said[0].startswith("finished; it was given to")
    assert said[1].startswith("failed after 1 attempt: PAYLOAD_FAILED: exit status 9;")
    assert said[2] == "was cancelled; it was never given to a pilot"
