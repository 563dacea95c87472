from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.errors import InvalidRequestError, NotFoundError, PreconditionError
from pandawn_server.domain.leases.leases import FIRST_LEASE
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Requirements
from pandawn_server.domain.tasks.tasks import File
from pandawn_server.usecases.dispatch.desks import AcquireCall
from pandawn_server.usecases.dispatch.round import IDLE_RETRY
from tests.fixtures.factories import ANYTHING, QUEUE, make_inputs
from tests.fixtures.world import LEASE, World, good, job_ids, reason

GIB = 2**30


def test_a_pilot_gets_the_job_with_all_it_needs(world: World) -> None:
    task = world.submit(inputs=make_inputs(2), files_per_job=2, outputs=("hist.root",)).task
    grant = world.take()
    assert world.job(grant.job.job_id).state is JobState.SENT
    assert grant.task == task
    assert grant.inputs == make_inputs(2)
    assert [plan.name for plan in grant.outputs] == ["hist.root", "log.tar.gz"]
    assert (grant.attempt, grant.duration) == (1, FIRST_LEASE)
    assert grant.library is None
    assert grant.explanation.startswith("given to wn01.example.org")


def test_no_two_leases_have_the_same_token(world: World) -> None:
    world.submit_jobs(20)
    tokens = {grant.token for grant in world.acquire(world.pilot(), 20)}
    assert len(tokens) == 20


def test_a_request_repeated_gets_the_leases_it_got_before(world: World) -> None:
    world.submit_jobs(5)
    pilot = world.pilot()
    first = world.acquire(pilot, 2, request_id="r1")
    assert world.acquire(pilot, 2, request_id="r1") == first
    other = world.acquire(pilot, 2, request_id="r2")
    assert not set(job_ids(first)) & set(job_ids(other))


def test_a_request_repeated_after_the_report_does_not_get_an_ended_lease(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    (grant,) = world.acquire(pilot, request_id="r1")
    world.finish(grant)
    assert world.acquire(pilot, request_id="r1") == ()


def test_the_same_request_id_of_two_pilots_is_two_requests(world: World) -> None:
    world.submit_jobs(2)
    grants = [world.take(world.pilot(node), request_id="r") for node in (1, 2)]
    assert len(set(job_ids(grants))) == 2


def test_a_call_and_its_repeat_in_one_batch_get_the_same_leases(world: World) -> None:
    world.submit_jobs(3)
    call = AcquireCall(world.pilot().pilot_id, "r1", 1, ANYTHING, None)
    one, two = (good(answer) for answer in world.ask_all([call, call]))
    assert one.grants == two.grants
    assert len(one.grants) == 1


def test_pilots_of_one_batch_never_share_a_job_and_each_gets_its_answer(world: World) -> None:
    world.submit_jobs(7)
    pilots = [world.pilot(node) for node in range(1, 6)]
    calls = [AcquireCall(p.pilot_id, world.new_request_id(), 2, ANYTHING, None) for p in pilots]
    answers = [good(answer) for answer in world.ask_all(calls)]
    assert sorted(len(answer.grants) for answer in answers) == [0, 1, 2, 2, 2]
    given = [job_id for answer in answers for job_id in job_ids(answer.grants)]
    assert len(set(given)) == len(given) == 7


def test_an_unknown_pilot_in_a_batch_fails_alone(world: World) -> None:
    world.submit_jobs(1)
    calls = [
        AcquireCall("nobody", "r1", 1, ANYTHING, None),
        AcquireCall(world.pilot().pilot_id, "r2", 1, ANYTHING, None),
    ]
    unknown, known = world.ask_all(calls)
    assert reason(unknown) == "PILOT_NOT_FOUND"
    assert len(good(known).grants) == 1


def test_an_empty_queue_says_when_to_come_back(world: World) -> None:
    answer = world.ask(world.pilot())
    assert answer.grants == ()
    assert answer.queue == QUEUE
    assert answer.retry_after == IDLE_RETRY
    assert "no job for this node" in answer.idle_reason


def test_a_pilot_gets_no_job_of_another_queue(world: World) -> None:
    world.queue("OTHER")
    world.submit_jobs(1, queue="OTHER")
    assert world.acquire(world.pilot()) == ()
    assert world.acquire(world.pilot(queue="OTHER")) != ()


def test_a_waiting_job_is_not_given_out(world: World) -> None:
    world.submit_jobs(1)
    task = world.jobs()[0].task_id
    with world.db.write() as tx:
        tx.exec_driver_sql("UPDATE jobs SET state = 'waiting'")
    assert world.acquire(world.pilot()) == ()
    assert world.states(task) == [JobState.WAITING]


def test_jobs_come_by_priority_and_then_by_age(world: World) -> None:
    for priority in (0, 500, -500):
        world.submit_jobs(2, priority=priority)
        world.advance(seconds=1)
    assert job_ids(world.acquire(world.pilot(), 6)) == [3, 4, 1, 2, 5, 6]


def test_a_pilot_gets_what_fits_its_offer_even_behind_what_does_not(world: World) -> None:
    world.submit_jobs(1, requirements=Requirements(memory_bytes=8 * GIB), priority=500)
    world.submit_jobs(1, requirements=Requirements(memory_bytes=GIB))
    grants = world.acquire(world.pilot(), 5, offer=Requirements(memory_bytes=2 * GIB))
    assert job_ids(grants) == [2]


def test_an_offline_queue_gives_no_jobs_but_repeats_its_leases(world: World) -> None:
    world.submit_jobs(2)
    pilot = world.pilot()
    first = world.acquire(pilot, request_id="r1")
    world.queue(status=QueueStatus.OFFLINE)
    assert job_ids(world.acquire(pilot, request_id="r1")) == job_ids(first)
    with pytest.raises(PreconditionError) as caught:
        world.acquire(pilot)
    assert caught.value.reason == "QUEUE_OFFLINE"


def test_a_queue_in_brokeroff_works_off_what_it_has(world: World) -> None:
    world.submit_jobs(1)
    world.queue(status=QueueStatus.BROKEROFF)
    assert len(world.acquire(world.pilot())) == 1


def test_registering_twice_with_one_request_id_is_one_pilot(world: World) -> None:
    assert world.pilot(request_id="r1") == world.pilot(request_id="r1")
    assert world.told().count("PILOT_REGISTERED") == 1


def test_a_request_id_of_another_node_does_not_register(world: World) -> None:
    world.pilot(1, request_id="r1")
    with pytest.raises(Exception, match="was used for a pilot of another queue or node"):
        world.pilot(2, request_id="r1")


def test_registering_needs_a_queue_that_takes_pilots(world: World) -> None:
    with pytest.raises(NotFoundError) as unknown:
        world.pilot(queue="NOWHERE")
    assert unknown.value.reason == "QUEUE_NOT_FOUND"
    world.queue(status=QueueStatus.OFFLINE)
    with pytest.raises(PreconditionError) as offline:
        world.pilot()
    assert offline.value.reason == "QUEUE_OFFLINE"


def test_a_pilot_that_said_goodbye_gets_no_jobs(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    assert world.leave(pilot) == 0
    with pytest.raises(NotFoundError) as caught:
        world.acquire(pilot)
    assert caught.value.reason == "PILOT_NOT_FOUND"


def test_the_clock_of_the_node_changes_nothing(world: World) -> None:
    """Nothing that a pilot says carries a time: leases run by the server's clock alone."""
    world.submit_jobs(1)
    pilot = world.pilot()
    (grant,) = world.begin(pilot)
    world.pass_time_with_server_up(LEASE - timedelta(seconds=10))
    world.renew(pilot, grant)
    world.pass_time_with_server_up(LEASE - timedelta(seconds=10))
    assert world.job(grant.job.job_id).state is JobState.RUNNING
    fields = {name.lower() for name in AcquireCall._fields}
    assert not {name for name in fields if "time" in name}


def test_a_build_job_is_given_before_the_jobs_that_wait_for_it(world: World) -> None:
    with world.db.write() as tx:
        tx.exec_driver_sql(
            "INSERT INTO sandboxes (sandbox_id, size_bytes, create_time)"
            " VALUES ('s', 1, '2026-01-01 00:00:00')"
        )
    world.submit(build=True, sandbox_id="s", job_count=2)
    (grant,) = world.acquire(world.pilot(), 10)
    assert grant.job.kind is JobKind.BUILD


def test_pilots_are_noted_with_what_they_offer(world: World) -> None:
    pilot = world.pilot()
    world.ask(pilot, offer=Requirements(cores=4, wall_time=timedelta(hours=1)))
    with world.db.read() as tx:
        row = tx.exec_driver_sql("SELECT offer_cores, offer_wall_time_s, state FROM pilots").one()
    assert tuple(row) == (4, 3600.0, PilotState.LIVE.value)


def long_inputs(task: str, number: int) -> tuple[File, ...]:
    """Files whose names and URLs take some 2 kB each."""
    path = "root://se.example.org//" + "p" * 1700
    return tuple(
        File(f"{task}{n}." + "x" * 200, 1, f"{path}/{task}{n}." + "x" * 200) for n in range(number)
    )


def test_jobs_that_are_too_much_for_one_reply_stay_runnable_as_if_they_had_never_been_given(
    world: World,
) -> None:
    for task in "abc":
        world.submit(inputs=long_inputs(task, 700), files_per_job=700, dataset=f"user.anna.{task}")
    before = world.jobs()
    pilot = world.pilot()
    first, second = world.acquire(pilot, 5, request_id="r")
    assert [first.job.job_id, second.job.job_id] == [1, 2]
    (left,) = [job for job in world.jobs() if job.state is JobState.ACTIVATED]
    assert left == before[2]
    assert [event.event.job_id for event in world.events() if event.event.kind == "JOB_SENT"] == [
        1,
        2,
    ]
    assert world.acquire(pilot, 5, request_id="r") == (first, second)
    assert world.take(pilot).job.job_id == left.job_id


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"inputs": long_inputs("a", 1600), "files_per_job": 1600}, "1,600 input files"),
        ({"command": ("x" * 32_000,) * 110}, "command, environment and outputs"),
        ({"environment": {f"V{n}": "x" * 32_000 for n in range(110)}}, "command, environment"),
    ],
    ids=["inputs", "command", "environment"],
)
def test_a_job_that_no_pilot_could_be_told_of_is_refused(
    world: World, odd: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        world.submit(**odd)
    assert refused.value.reason == "JOB_TOO_LARGE"
    assert told in refused.value.message
