"""Users see and touch their own, administrators what is on their queues, monitors see all and touch nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Principal, Role
from pandawn_server.domain.errors import ForbiddenError, NotFoundError, PandawnError
from pandawn_server.domain.tasks.jobs import JobFilter
from pandawn_server.usecases.catalog import coverage
from pandawn_server.usecases.dispatch.explain_job import explain_job
from pandawn_server.usecases.monitor import read as monitor
from pandawn_server.usecases.tasks import cancel, read, retry
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.principals import ADMIN, ANNA, BEN, MONITOR, OPERATOR, STRANGER
from tests.fixtures.world import World

GZIP = b"\x1f\x8b" + b"code"
FAR = "ANALY_FAR"

READS: dict[str, Callable[[World, Principal], object]] = {
    "GetTask": lambda w, by: read.get_task(w.context, 1, by),
    "GetJob": lambda w, by: read.get_job(w.context, 1, by),
    "ExplainJob": lambda w, by: explain_job(w.context, 1, by),
    "ListJobs": lambda w, by: read.list_jobs(w.context, 0, 9, JobFilter(task_id=1), by),
    "StreamEvents of a task": lambda w, by: monitor.read_events(
        w.context, 0, 99, 9, task_id=1, job_id=0, by=by
    ),
    "StreamEvents of a job": lambda w, by: monitor.first_event_to_send(
        w.context, 0, 9, task_id=0, job_id=1, by=by
    ),
}
WRITES: dict[str, Callable[[World, Principal], object]] = {
    "CancelTask": lambda w, by: cancel.cancel_task(w.context, 1, by),
    "CancelJob": lambda w, by: cancel.cancel_job(w.context, 1, by),
    "RetryTask": lambda w, by: retry.retry_task(w.context, "r", 1, by),
    "RetryJob": lambda w, by: retry.retry_job(w.context, "r", 1, by),
}


@pytest.fixture
def of_anna(world: World) -> World:
    """Anna has a task with a cancelled job; Ben has one on a queue of another site."""
    world.queue(FAR, site="ELSEWHERE")
    world.by = ANNA
    world.submit(dataset="a", job_count=1, inputs=())
    world.cancel(1)
    world.by = BEN
    world.submit(user="", dataset="b", job_count=1, inputs=(), queue=FAR)
    world.by = LOCAL_OPERATOR
    return world


def refused(act: Callable[[], object]) -> PandawnError:
    with pytest.raises(PandawnError) as caught:
        act()
    return caught.value


@pytest.mark.parametrize("call", READS)
def test_others_tasks_are_seen_by_administrators_operators_and_monitors_only(
    of_anna: World, call: str
) -> None:
    for by in (ANNA, ADMIN, OPERATOR, MONITOR, LOCAL_OPERATOR):
        READS[call](of_anna, by)
    for by in (BEN, STRANGER):
        assert isinstance(refused(partial(READS[call], of_anna, by)), ForbiddenError)


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("by", [BEN, STRANGER, MONITOR], ids=lambda p: p.name)
def test_others_tasks_are_not_touched(of_anna: World, call: str, by: Principal) -> None:
    before = of_anna.told()
    error = refused(lambda: WRITES[call](of_anna, by))
    assert error.reason == f"NOT_YOUR_{call.removeprefix('Cancel').removeprefix('Retry').upper()}"
    assert error.metadata["site"] == SITE
    assert SITE in error.message
    assert of_anna.told() == before


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("by", [ANNA, ADMIN, OPERATOR], ids=lambda p: p.name)
def test_owners_and_administrators_cancel_and_retry(
    of_anna: World, call: str, by: Principal
) -> None:
    WRITES[call](of_anna, by)


def test_a_monitor_that_is_a_user_too_touches_its_own(of_anna: World) -> None:
    by = replace(ANNA, roles=frozenset({Role.USER, Role.MONITOR}))
    cancel.cancel_task(of_anna.context, 1, by)
    assert refused(lambda: cancel.cancel_task(of_anna.context, 2, by)).reason == "NOT_YOUR_TASK"


def test_lists_hold_what_one_may_see(of_anna: World) -> None:
    def seen(by: Principal, user: str = "") -> tuple[list[int], list[int], set[str], set[int]]:
        context = of_anna.context
        found = read.list_tasks(context, None, 9, user, {}, by)
        jobs = read.list_jobs(context, 0, 9, JobFilter(user=user), by)
        counts = monitor.count_jobs(context, None, "", user, by)
        told = monitor.read_events(context, 0, 99, 50, task_id=0, job_id=0, by=by).events
        return (
            [view.task.task_id for view in found],
            [job.job_id for job in jobs],
            {count.user for count in counts},
            {n.event.task_id for n in told} - {0},
        )

    assert seen(ANNA) == seen(ANNA, "anna") == ([1], [1], {"anna"}, {1})
    assert seen(BEN) == ([2], [2], {"ben"}, {2})
    assert seen(ADMIN) == ([1], [1], {"anna"}, {1})
    assert seen(STRANGER) == ([2], [2], {"ben"}, {2})
    assert seen(MONITOR) == seen(OPERATOR) == ([2, 1], [1, 2], {"anna", "ben"}, {1, 2})
    assert seen(ADMIN, "ben")[:3] == ([], [], set())


def test_a_list_of_another_user_is_refused_and_not_empty(of_anna: World) -> None:
    context = of_anna.context
    for act in (
        lambda: read.list_tasks(context, None, 9, "anna", {}, BEN),
        lambda: read.list_jobs(context, 0, 9, JobFilter(user="anna"), BEN),
        lambda: read.list_jobs(context, 0, 9, JobFilter(user="anna", queue=QUEUE), BEN),
        lambda: monitor.count_jobs(context, None, "", "anna", BEN),
    ):
        assert refused(act).reason == "NOT_YOUR_TASK"


def test_pages_of_an_administrator_are_merged_in_order_and_without_doubles(world: World) -> None:
    world.queue("ANALY_TWO")
    admin = replace(ADMIN, name="anna", roles=frozenset({Role.USER, Role.SITE_ADMIN}))
    for number in range(6):
        queue = (QUEUE, "ANALY_TWO")[number % 2]
        world.submit(dataset=f"d{number}", job_count=1, inputs=(), queue=queue)
    pages, before = [], None
    while page := read.list_tasks(world.context, before, 2, "", {}, admin):
        pages += [view.task.task_id for view in page]
        before = page[-1].task.task_id
    assert pages == [6, 5, 4, 3, 2, 1]
    newest = read.list_jobs(world.context, 5, 3, JobFilter(newest_first=True), admin)
    assert [job.job_id for job in newest] == [4, 3, 2]


def test_a_site_s_administrators_change_with_its_queues(of_anna: World) -> None:
    of_anna.queue(QUEUE, site="ELSEWHERE")
    read.get_task(of_anna.context, 1, STRANGER)
    assert refused(lambda: read.get_task(of_anna.context, 1, ADMIN)).reason == "NOT_YOUR_TASK"


def test_an_administrator_hears_of_nodes_of_its_site(of_anna: World) -> None:
    pilot = of_anna.pilot(node=1)
    context = of_anna.context
    last = monitor.last_event_id(context)
    of_anna.leave(pilot)

    def hears(by: Principal) -> list[str]:
        page = monitor.read_events(context, last, last + 99, 9, task_id=0, job_id=0, by=by)
        return [n.event.kind for n in page.events]

    assert hears(ADMIN) == ["PILOT_ENDED"]
    assert hears(STRANGER) == hears(BEN) == []


def test_the_tail_of_a_user_s_stream_has_its_own_last_events(of_anna: World) -> None:
    def begins(by: Principal, tail: int) -> int:
        return monitor.first_event_to_send(of_anna.context, 0, tail, task_id=0, job_id=0, by=by)

    own = [n.event_id for n in of_anna.events() if n.event.user == "anna"]
    assert own[-2] <= begins(ANNA, 1) < own[-1]
    assert begins(ANNA, 100) == 0


def test_the_owner_of_a_task_is_its_caller(world: World) -> None:
    world.by = ANNA
    assert world.submit(user="").task.spec.user == "anna"
    error = refused(lambda: world.submit(user="ben", dataset="x"))
    assert (error.reason, type(error)) == ("NOT_YOUR_NAME", ForbiddenError)


def test_operators_submit_for_anybody_and_the_nameless_must_say_for_whom(world: World) -> None:
    world.by = OPERATOR
    assert world.submit(user="ben", dataset="x").task.spec.user == "ben"
    assert world.submit(user="", dataset="x").task.spec.user == "olga"
    world.by = LOCAL_OPERATOR
    error = refused(lambda: world.submit(user="", dataset="y"))
    assert [v.field for v in error.violations] == ["task.user"]


def test_the_answer_to_a_submission_is_repeated_to_its_author_only(world: World) -> None:
    world.by = ANNA
    view = world.submit("one", user="", dataset="d")
    assert world.submit("one", user="", dataset="d").task == view.task
    world.by = BEN
    # Another user's number is another number.
    his = world.submit("one", user="", dataset="d")
    assert (his.task.spec.user, his.task.task_id != view.task.task_id) == ("ben", True)
    assert world.submit("one", user="", dataset="d").task == his.task


def test_a_sandbox_is_used_by_those_who_uploaded_it(world: World) -> None:
    sandbox_id, _ = store_sandbox(world.context, [GZIP], ANNA)
    world.by = BEN
    error = refused(lambda: world.submit(user="", sandbox_id=sandbox_id))
    assert (error.reason, type(error)) == ("SANDBOX_NOT_FOUND", NotFoundError)
    # Whoever has the same code may use it.
    assert store_sandbox(world.context, [GZIP], BEN)[0] == sandbox_id
    world.submit(user="", sandbox_id=sandbox_id)
    world.by = ANNA
    world.submit(user="", sandbox_id=sandbox_id)


def test_operators_use_any_sandbox(world: World) -> None:
    sandbox_id, _ = store_sandbox(world.context, [GZIP], ANNA)
    world.submit(sandbox_id=sandbox_id)


def test_coverage_of_another_s_task_is_refused(world: World) -> None:
    world.by = ANNA
    world.submit(user="")
    for by in (BEN, STRANGER):
        error = refused(partial(coverage.cover_task, world.context, "", 1, by))
        assert error.reason == "NOT_YOUR_TASK"
