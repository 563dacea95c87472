"""What a matchmaker promises, whatever jobs, nodes, requests, mistakes and rules come and go."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pandawn_server.domain.catalog.inventory import DeltaResult
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.matching import (
    Needs,
    Rules,
    band,
    fits,
    needs_of,
    offered,
    overtaken_s,
    put_off_s,
    too_large,
)
from pandawn_server.domain.dispatch.values import (
    Assignment,
    Limits,
    Request,
    RunnableJob,
    Standing,
)
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.clock import NOON
from tests.fixtures.dispatch import GB, assert_empty, audit
from tests.fixtures.factories import node_key

NODES = 4
FILES = 10
JOBS = 40

# Few values each, so that ties are common; some needs share a class, some do not.
REQUIREMENTS = st.sampled_from(
    [
        Requirements(),
        Requirements(),
        Requirements(memory_bytes=2 * GB, cores=1),
        Requirements(memory_bytes=3 * GB, cores=1),
        Requirements(cores=8),
        Requirements(wall_time=timedelta(hours=12)),
        Requirements(disk_bytes=7 * GB),
    ]
)
OFFERS = st.sampled_from(
    [
        Requirements(),
        Requirements(),
        Requirements(),
        Requirements(memory_bytes=5 * GB // 2, cores=1),
        Requirements(memory_bytes=3 * GB, cores=8, wall_time=timedelta(hours=11)),
        Requirements(disk_bytes=4 * GB),
    ]
)
RULES = st.builds(
    Rules,
    priority_band=st.sampled_from([1, 100]),
    locality_wait=st.sampled_from([timedelta(0), timedelta(minutes=10), timedelta(hours=1)]),
    max_input_bytes=st.sampled_from([0, 0, 5 * GB]),
)
NODE = st.integers(1, NODES)
FILE_SETS = st.sets(st.integers(1, FILES), max_size=6)
ACTIONS = [
    *["jobs_come"] * 4,
    *["pilots_ask"] * 6,
    *["time_passes"] * 3,
    *["a_cache_changes"] * 2,
    "an_inventory_comes",
    "a_node_comes_or_goes",
    "a_cache_is_forgotten",
    "jobs_are_cancelled",
    "claims_are_lost",
    "claims_fail",
    "requests_are_withdrawn",
    "rules_change",
]


class Life(RuleBasedStateMachine):
    """A queue, and beside it the simplest account of what waits and who asks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.queue_rules = Rules(100, timedelta(minutes=10), 0)
        self.limits = Limits(jobs=JOBS, files_per_job=4, files_per_node=8)
        self.matchmaker = Matchmaker(self.queue_rules, self.limits)
        self.names = 0
        self.jobs: dict[int, RunnableJob] = {}
        self.given: dict[int, RunnableJob] = {}
        self.put_off: set[int] = set()
        self.requests: dict[str, Request] = {}
        self.sequences = dict.fromkeys(range(1, NODES + 1), 0)

    def name(self) -> int:
        self.names += 1
        return self.names

    @rule(data=st.data(), action=st.sampled_from(ACTIONS))
    def something_happens(self, data: st.DataObject, action: str) -> None:
        """One rule for all: Hypothesis would try each of many as often."""
        getattr(self, action)(data)

    # Jobs.

    def jobs_come(self, data: st.DataObject) -> None:
        priority = data.draw(st.sampled_from([-100, 0, 0, 50, 1000]))
        requirements = data.draw(REQUIREMENTS)
        task_id = data.draw(st.integers(0, 2))
        jobs = [
            RunnableJob(
                self.name(),
                priority,
                self.now,
                [(file, file % 3 * GB) for file in sorted(files)],
                requirements,
                task_id,
            )
            for files in data.draw(st.lists(FILE_SETS, min_size=1, max_size=6))
        ]
        room = JOBS - len(self.jobs)
        assert self.matchmaker.room == room
        known = list(self.jobs.values())[:2]
        refused = self.matchmaker.add([*known, *jobs], self.now)
        assert refused == [job.job_id for job in jobs[room:]]
        self.jobs |= {job.job_id: job for job in jobs[:room]}
        self.match()

    def jobs_are_cancelled(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.sampled_from(sorted(self.jobs)))) if self.jobs else set()
        self.matchmaker.remove([*chosen, 10**6])
        for job_id in chosen:
            del self.jobs[job_id]

    def claims_are_lost(self, data: st.DataObject) -> None:
        for job_id in self.some_given(data):
            self.matchmaker.lost([job_id, 10**6])
            del self.given[job_id]

    def claims_fail(self, data: st.DataObject) -> None:
        chosen = self.some_given(data)
        assert self.matchmaker.give_back([*chosen, 10**6], self.now) == [10**6]
        for job_id in chosen:
            self.jobs[job_id] = self.given.pop(job_id)
        self.match()

    def some_given(self, data: st.DataObject) -> list[int]:
        return (
            data.draw(st.lists(st.sampled_from(sorted(self.given)), max_size=3, unique=True))
            if self.given
            else []
        )

    def rules_change(self, data: st.DataObject) -> None:
        self.queue_rules = data.draw(RULES)
        self.matchmaker.set_rules(self.queue_rules, self.now)
        self.put_off.clear()
        self.match()

    # Nodes.

    def an_inventory_comes(self, data: st.DataObject) -> None:
        number, files = data.draw(NODE), data.draw(FILE_SETS)
        self.sequences[number] += data.draw(st.integers(1, 2))
        self.matchmaker.inventory(node_key(number), 1, self.sequences[number], files)

    def a_cache_changes(self, data: st.DataObject) -> None:
        number, skipped = data.draw(NODE), data.draw(st.sampled_from([0, 0, 0, 1]))
        result = self.matchmaker.change(
            node_key(number),
            1,
            self.sequences[number] + 1 + skipped,
            data.draw(FILE_SETS),
            data.draw(FILE_SETS),
        )
        assert skipped == 0 or result is DeltaResult.INVENTORY_REQUESTED
        if result is DeltaResult.APPLIED:
            self.sequences[number] += 1

    def a_node_comes_or_goes(self, data: st.DataObject) -> None:
        self.matchmaker.set_live(node_key(data.draw(NODE)), live=data.draw(st.booleans()))
        self.match()

    def a_cache_is_forgotten(self, data: st.DataObject) -> None:
        self.matchmaker.forget(node_key(data.draw(NODE)))
        self.match()

    # Requests.

    def pilots_ask(self, data: st.DataObject) -> None:
        requests = [
            Request(str(self.name()), node_key(node), data.draw(OFFERS), count)
            for node, count in data.draw(
                st.lists(st.tuples(NODE, st.integers(1, 3)), min_size=1, max_size=4)
            )
        ]
        self.requests |= {request.request_id: request for request in requests}
        self.matchmaker.ask(requests)
        self.match()

    def requests_are_withdrawn(self, data: st.DataObject) -> None:
        if not self.requests:
            return
        chosen = data.draw(st.sets(st.sampled_from(sorted(self.requests)), max_size=3))
        self.matchmaker.cancel(chosen)
        for name in chosen:
            del self.requests[name]

    def time_passes(self, data: st.DataObject) -> None:
        self.now += timedelta(seconds=data.draw(st.sampled_from([1, 30, 400, 700, 4000])))
        self.match()

    def match(self) -> None:
        before = {job_id: self.standing(job_id) for job_id in self.jobs}
        assignments = self.matchmaker.match(self.now)
        taken: dict[str, int] = {}
        for assignment in assignments:
            match = assignment.match
            # Nothing is given twice, nor to nobody, nor to somebody whom it does not fit.
            self.given[match.job_id] = job = self.jobs.pop(match.job_id)
            request = self.requests[assignment.request_id]
            assert assignment.node == request.node
            assert fits(needs(job), offered(request.offer))
            assert not before[match.job_id].too_large
            taken[request.request_id] = taken.get(request.request_id, 0) + 1
            assert taken[request.request_id] <= request.count
            assert 0 <= match.local_bytes <= match.input_bytes == total(job)
            assert match.candidates >= 1
            assert 0 <= match.held < match.candidates
            assert match.waited == max(self.now - job.since, timedelta(0))
        checks = [self.check_nobody_was_passed_over(given, before) for given in assignments]
        self.put_off.update(*checks)
        for name in taken:
            del self.requests[name]

    def check_nobody_was_passed_over(
        self, assignment: Assignment, before: dict[int, Standing]
    ) -> set[int]:
        """No job of a higher band, and none that was overtaken for too long, waits on where it fits.

        Returns jobs that are left to the nodes that hold their files for a last while.
        """
        given = self.given[assignment.match.job_id]
        offer = offered(self.requests[assignment.request_id].offer)
        put_off: set[int] = set()
        for job in self.jobs.values():
            if before[job.job_id].too_large or not fits(needs(job), offer):
                continue
            mine, other = self.band(given), self.band(job)
            assert mine >= other
            overdue = self.is_overdue(before[job.job_id])
            if mine == other and overdue and not self.is_overdue(before[given.job_id]):
                # It was left to the nodes that hold its files, as it is once.
                assert not self.is_overdue(self.standing(job.job_id))
                assert job.job_id not in self.put_off
                put_off.add(job.job_id)
        return put_off

    def is_overdue(self, standing: Standing) -> bool:
        return standing.overdue_at is not None and standing.overdue_at <= self.now

    def band(self, job: RunnableJob) -> int:
        return band(job.priority, self.queue_rules.priority_band)

    def standing(self, job_id: int) -> Standing:
        standing = self.matchmaker.standing(job_id, self.now)
        assert standing is not None
        return standing

    # What always holds.

    @invariant()
    def it_knows_the_jobs_that_wait_and_no_others(self) -> None:
        assert len(self.matchmaker) == len(self.jobs)
        assert all(job_id in self.matchmaker for job_id in self.jobs)
        assert set(self.matchmaker.oldest(JOBS)) <= self.jobs.keys()
        assert self.matchmaker.standing(10**6, self.now) is None

    @invariant()
    def its_books_agree(self) -> None:
        audit(self.matchmaker)

    @invariant()
    def no_job_is_held_or_overtaken_for_longer_than_the_rules_allow(self) -> None:
        for job_id, job in self.jobs.items():
            standing = self.standing(job_id)
            assert standing.too_large == too_large(total(job), self.queue_rules)
            assert 0 <= standing.ahead < len(self.jobs)
            if standing.held_until is not None:
                assert self.now < standing.held_until <= job.since + self.queue_rules.locality_wait
            if standing.overdue_at is not None:
                waited, wait = self.now - job.since, self.queue_rules.locality_wait
                spans = (waited.total_seconds(), wait.total_seconds())
                longest = max(overtaken_s(*spans), put_off_s(*spans))
                assert standing.overdue_at <= self.now + timedelta(seconds=longest)

    @invariant()
    def no_slot_is_idle_while_a_job_waits_for_nobody_else(self) -> None:
        for request in self.requests.values():
            for job_id, job in self.jobs.items():
                standing = self.standing(job_id)
                if not standing.too_large and fits(needs(job), offered(request.offer)):
                    assert standing.held_for is not None or self.promise_just_ended(job_id)

    def promise_just_ended(self, job_id: int) -> bool:
        end = self.matchmaker.next_hold_end()
        return end is not None and end <= self.now and job_id in self.jobs

    def teardown(self) -> None:
        self.matchmaker.cancel(list(self.requests))
        for _ in range(2 * JOBS):
            self.requests = {
                str(number): Request(str(number), node_key(number), Requirements(), 5)
                for number in range(1, NODES + 1)
            }
            self.matchmaker.ask(self.requests.values())
            waiting = len(self.jobs)
            self.match()
            if len(self.jobs) == waiting:
                large = [job_id for job_id in self.jobs if self.standing(job_id).too_large]
                self.matchmaker.remove(large)
                for job_id in large:
                    del self.jobs[job_id]
                self.now += timedelta(hours=1)
            self.matchmaker.cancel(list(self.requests))
        assert not self.jobs
        for number in range(1, NODES + 1):
            self.matchmaker.forget(node_key(number))
        self.now += timedelta(hours=1)
        self.match()
        assert_empty(self.matchmaker)


def needs(job: RunnableJob) -> Needs:
    return needs_of(job.requirements, total(job))


def total(job: RunnableJob) -> int:
    return sum(size for _, size in job.inputs)


def test_a_matchmaker_keeps_its_promises() -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=settings().max_examples // 2,
            stateful_step_count=40,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
