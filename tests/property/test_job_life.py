"""Users, pilots, zombies, lost replies, lapsing leases and restarts, in any order: the invariants of a job's life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.leases.faults import MAX_LOST
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.tasks.jobs import (
    FINAL_STATES,
    LEASED_STATES,
    TRANSITIONS,
    Job,
    JobKind,
    JobState,
    Phase,
)
from pandawn_server.storage.database import Database
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.leases.report import Reported
from pandawn_server.usecases.tasks.read import get_job
from pandawn_server.usecases.tasks.retry import RETRIABLE
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.database import empty
from tests.fixtures.factories import make_inputs, node_error, payload_error
from tests.fixtures.world import LEASE, World, failure, job_ids, success

NODES = 3
JOBS = 20
"""Enough to meet everything; more only takes time."""

ERRORS = [
    node_error(),
    node_error("NO_WORK_DIR"),
    node_error("PILOT_STOPPED"),
    payload_error(),
    payload_error("PAYLOAD_NOT_FOUND"),
    payload_error("WORK_DIR_TOO_LARGE"),
]
ACTIONS = [
    *["acquire"] * 6,
    *["report_now_late_or_again"] * 7,
    *["heartbeat"] * 3,
    *["acquire_again_after_a_lost_reply"] * 2,
    "release",
    "submit",
    "retry_a_job_twice_with_one_request_id",
    "retry_task",
    "cancel",
    "cancel_task",
    "leave",
    "let_time_pass",
    "restart",
]
"""Each as often as it takes to get somewhere; most need a lease."""

LeaseName = tuple[int, int, str]


def name_of(grant: Grant) -> LeaseName:
    return grant.job.job_id, grant.attempt, grant.token


class JobLife(RuleBasedStateMachine):
    """A server that is restarted now and then, with whatever people and pilots do to it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        empty(database)
        self.world = World(database, catalog_on(memory_store()))
        self.before: dict[int, Job] = {}
        self.submissions: dict[str, int] = {}
        # The newest of each node; older ones live on with their leases, as zombies do.
        self.pilot_of: dict[int, Pilot] = {}
        # What a pilot asked, and what it may have got: a lost reply is one that it asks for again.
        self.calls: list[tuple[Pilot, str, int]] = []
        self.grants: dict[LeaseName, Grant] = {}
        self.answers: dict[LeaseName, JobState] = {}

    def live_leases(self) -> set[LeaseName]:
        with self.world.db.read() as tx:
            rows = tx.exec_driver_sql("SELECT job_id, attempt, token FROM leases").all()
        return {(row[0], row[1], row[2]) for row in rows}

    @initialize()
    def open(self) -> None:
        self.world.queue()
        self.world.reap()
        self.sandbox_id, _ = store_sandbox(self.world.context, [b"\x1f\x8bcode"], LOCAL_OPERATOR)
        view = self.world.submit("first", job_count=2)
        self.submissions["first"] = view.task.task_id

    @rule(data=st.data(), action=st.sampled_from(ACTIONS))
    def something_happens(self, data: st.DataObject, action: str) -> None:
        """One rule for all: Hypothesis would try each of many as often."""
        getattr(self, action)(data)

    # Users.

    def submit(self, data: st.DataObject) -> None:
        if len(self.before) >= JOBS:
            return
        jobs, build = data.draw(st.integers(1, 3)), data.draw(st.booleans())
        request_id = self.world.new_request_id()
        spec: dict[str, Any] = {
            "dataset": request_id,
            "inputs": make_inputs(jobs),
            "build": build,
            "sandbox_id": self.sandbox_id if build else "",
            "max_attempts": data.draw(st.integers(1, 3)),
        }
        view = self.world.submit(request_id, **spec)
        assert self.world.submit(request_id, **spec) == view
        self.submissions[request_id] = view.task.task_id
        assert len(self.world.jobs(view.task.task_id)) == jobs + build

    def cancel(self, data: st.DataObject) -> None:
        job = self.world.cancel(data.draw(st.sampled_from(sorted(self.before))))
        assert job.state in FINAL_STATES or job.cancel_requested

    def cancel_task(self, data: st.DataObject) -> None:
        self.world.cancel_task(data.draw(st.sampled_from(sorted(self.submissions.values()))))

    def retry_a_job_twice_with_one_request_id(self, data: st.DataObject) -> None:
        failed = sorted(job.job_id for job in self.before.values() if job.state in RETRIABLE)
        if not failed or len(self.before) >= JOBS:
            return
        job_id = data.draw(st.sampled_from(failed))
        request_id = self.world.new_request_id()
        try:
            job = self.world.retry(job_id, request_id)
        except PandawnError as error:
            was_retried = self.before[job_id].retry_job_id is not None
            assert error.reason == ("NOTHING_TO_RETRY" if was_retried else "UPSTREAM_FAILED")  # noqa: PT017
            return
        assert job.parent_job_id == job_id
        assert self.world.retry(job_id, request_id).job_id == job.job_id

    def retry_task(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.submissions.values())))
        failed = [
            job
            for job in self.before.values()
            if job.task_id == task_id and job.state in RETRIABLE and job.retry_job_id is None
        ]
        if not failed or len(self.before) >= JOBS:
            return
        assert len(self.world.retry_task(task_id)) == len(failed)

    # Pilots, of which some are long dead to the server.

    def acquire(self, data: st.DataObject) -> None:
        node = data.draw(st.integers(1, NODES))
        if node not in self.pilot_of:
            self._register(node)
        call = (
            self.pilot_of[node],
            self.world.new_request_id(),
            data.draw(st.integers(1, 3)),
        )
        self.calls.append(call)
        if self._acquire(*call) is None:
            self._register(node)

    def _register(self, node: int) -> None:
        request_id = self.world.new_request_id()
        pilot = self.world.pilot(node, request_id=request_id)
        assert self.world.pilot(node, request_id=request_id) == pilot
        self.pilot_of[node] = pilot

    def acquire_again_after_a_lost_reply(self, data: st.DataObject) -> None:
        if not self.calls:
            return
        pilot, request_id, max_jobs = self.calls[data.draw(st.sampled_from(range(len(self.calls))))]
        with self.world.db.read() as tx:
            rows = tx.exec_driver_sql("SELECT job_id, pilot_id, request_id FROM leases").all()
        mine = {row[0] for row in rows if (row[1], row[2]) == (pilot.pilot_id, request_id)}
        got = self._acquire(pilot, request_id, max_jobs)
        if mine and got is not None:
            assert set(job_ids(got)) == mine

    def _acquire(self, pilot: Pilot, request_id: str, max_jobs: int) -> tuple[Grant, ...] | None:
        try:
            grants = self.world.acquire(pilot, max_jobs, request_id=request_id)
        except PandawnError as error:
            assert error.reason == "PILOT_NOT_FOUND"  # noqa: PT017
            return None
        assert len(grants) <= max_jobs
        assert len(set(job_ids(grants))) == len(grants)
        for grant in grants:
            self.grants[name_of(grant)] = grant
        return grants

    def _some_grant(self, data: st.DataObject) -> Grant | None:
        """One that a pilot ever got; more often one that is live."""
        live = self.live_leases()
        names = sorted(live) * 2 + sorted(self.grants)
        return self.grants[data.draw(st.sampled_from(names))] if names else None

    def heartbeat(self, data: st.DataObject) -> None:
        grant = self._some_grant(data)
        if grant is None:
            return
        is_live = name_of(grant) in self.live_leases()
        pilot = self.pilot_of[data.draw(st.sampled_from(sorted(self.pilot_of)))]
        try:
            phase = data.draw(st.sampled_from(Phase))
            (answer,) = self.world.heartbeat(pilot, grant, phase=phase).results
        except PandawnError as error:
            assert error.reason == "PILOT_NOT_FOUND"  # noqa: PT017
            return
        if isinstance(answer, PandawnError):
            assert answer.reason == "STALE_LEASE"
            assert not is_live
        else:
            assert is_live
            assert answer.cancel == self.before[grant.job.job_id].cancel_requested

    def report_now_late_or_again(self, data: st.DataObject) -> None:
        grant = self._some_grant(data)
        if grant is None:
            return
        error = data.draw(st.sampled_from([None, None, *ERRORS]))
        report = success(grant) if error is None else failure(grant, error)
        is_live = name_of(grant) in self.live_leases()
        for answer in self.world.report(*[report] * data.draw(st.integers(1, 2))):
            if isinstance(answer, Reported):
                assert is_live or self.answers[name_of(grant)] is answer.state
                self.answers[name_of(grant)] = answer.state
            else:
                assert answer.reason == "STALE_LEASE"
                assert not is_live
                assert name_of(grant) not in self.answers

    def release(self, data: st.DataObject) -> None:
        grant = self._some_grant(data)
        if grant is not None:
            is_live = name_of(grant) in self.live_leases()
            (answer,) = self.world.release(grant)
            assert isinstance(answer, Reported) == is_live

    def leave(self, data: st.DataObject) -> None:
        if self.pilot_of:
            self.world.leave(self.pilot_of[data.draw(st.sampled_from(sorted(self.pilot_of)))])

    # Time and the server.

    def let_time_pass(self, data: st.DataObject) -> None:
        minutes = data.draw(st.sampled_from([1, 6, 11, 25]))
        self.world.pass_time_with_server_up(timedelta(minutes=minutes))
        self.world.release_throttled()

    def restart(self, data: st.DataObject) -> None:
        self.world.advance(minutes=data.draw(st.sampled_from([1, 6, 11, 600])))
        self.world = self.world.beside(self.world.db, self.world.context.rng.getrandbits(32))

    @invariant()
    def what_is_always_so(self) -> None:
        self._every_job_moves_by_the_table()
        self._a_job_with_a_pilot_has_one_live_lease_and_no_other_job_has()
        self._nothing_is_stuck()
        self._a_submission_is_one_task()

    def _every_job_moves_by_the_table(self) -> None:
        now = {job.job_id: job for job in self.world.jobs()}
        assert set(self.before) <= set(now)
        for job_id, old in self.before.items():
            new = now[job_id]
            if old.state is not new.state:
                assert new.state in TRANSITIONS[old.state], (old, new)
            assert new.attempt >= old.attempt
            assert new.failures >= old.failures
            assert new.failures <= new.max_attempts
            assert old.losses <= new.losses <= MAX_LOST
            assert old.cancel_requested <= new.cancel_requested
        self.before = now

    def _a_job_with_a_pilot_has_one_live_lease_and_no_other_job_has(self) -> None:
        leased = {
            (job.job_id, job.attempt) for job in self.before.values() if job.state in LEASED_STATES
        }
        live = self.live_leases()
        assert {(job_id, attempt) for job_id, attempt, _ in live} == leased
        assert len(live) == len(leased)
        # No lease that no pilot could know of: each was in a reply, which may be asked for again.
        assert live <= set(self.grants)

    def _nothing_is_stuck(self) -> None:
        """Runnable, with a lease that ends by itself, in a pause, or waiting for a build job that is any of these."""
        building = {
            job.task_id
            for job in self.before.values()
            if job.kind is JobKind.BUILD and job.state not in FINAL_STATES
        }
        for job in self.before.values():
            if job.state is JobState.WAITING:
                assert job.task_id in building or job.retry_time is not None
            if job.state is JobState.ACTIVATED:
                assert not job.cancel_requested
        with self.world.db.read() as tx:
            late = tx.exec_driver_sql("SELECT max(expire_time) FROM leases").scalar()
        if late is not None:
            limit = self.world.clock.now + LEASE
            assert str(late)[:19] <= str(limit)[:19]

    def _a_submission_is_one_task(self) -> None:
        with self.world.db.read() as tx:
            count = tx.exec_driver_sql("SELECT count(*) FROM tasks").scalar()
        assert count == len(self.submissions)

    def teardown(self) -> None:
        """Faults stop: within bounded time and work every job has ended, with one result."""
        node = NODES
        while any(job.state not in FINAL_STATES for job in self.world.jobs()):
            node += 1
            assert node < NODES + 10
            # Twice a lease: a server that was away gives them one more.
            self.world.pass_time_with_server_up(LEASE * 2.2)
            self.world.release_throttled()
            pilot = self.world.pilot(node)
            while grants := self.world.acquire(pilot, 10):
                for grant in grants:
                    self.world.finish(grant)
        for job in self.world.jobs():
            old = self.before[job.job_id].state
            assert job.state is old or old not in FINAL_STATES
            outcomes = [
                a.outcome for a in get_job(self.world.context, job.job_id, LOCAL_OPERATOR).attempts
            ]
            assert outcomes.count(JobState.FINISHED) == (job.state is JobState.FINISHED)
            assert outcomes.count(JobState.FAILED) == job.failures + job.losses


def run(database: Database, examples: int, steps: int) -> None:
    class OnThisDatabase(JobLife):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            # A run is short enough to be read; making it shorter would take minutes.
            phases=[HypothesisPhase.explicit, HypothesisPhase.reuse, HypothesisPhase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_invariants_of_a_jobs_life_hold_on_sqlite(sqlite_database: Database) -> None:
    run(sqlite_database, examples=settings().max_examples // 8, steps=35)


def test_the_invariants_of_a_jobs_life_hold_on_postgresql(postgres_database: Database) -> None:
    run(postgres_database, examples=settings().max_examples // 30, steps=25)
