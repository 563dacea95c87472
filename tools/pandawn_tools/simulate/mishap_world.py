"""Simulates users' mistakes and broken nodes at a site with the server's own rules of blame, retries and suspension."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.matching import Rules
from pandawn_server.domain.dispatch.values import Assignment, Request, RunnableJob
from pandawn_server.domain.leases.faults import FAULTS, Count, Evidence, Fault, Step
from pandawn_server.domain.leases.nodes import (
    DOUBT,
    GOOD_PROBES,
    WINDOW,
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
from pandawn_server.domain.leases.retries import Tried, judge
from pandawn_server.domain.tasks.jobs import (
    ErrorComponent,
    Job,
    JobError,
    JobKind,
    JobState,
    Requirements,
)
from pandawn_tools.simulate.mishaps import (
    SLOW_FACTOR,
    STAGE_IN_S,
    Broken,
    MishapTask,
    Sort,
    draw_broken,
    draw_tasks,
)

_BEGINNING = datetime(2011, 2, 1, tzinfo=UTC)
_COMPARED = 60
_ASKS_S = 1.0
"""Time from the end of a job until its pilot polls again."""


@dataclass(slots=True)
class _Host:
    """A node: its true state, the server's view of it, and counters."""

    node: Node
    free: int
    broken: Broken | None
    window: deque[EndedAttempt] = field(default_factory=lambda: deque(maxlen=WINDOW))
    running: int = 0
    ended_broken: int = 0
    suspended_after: int | None = None
    suspensions: int = 0
    doubts: frozenset[str] = frozenset()
    doubts_until: float = 0.0


@dataclass(slots=True)
class _Known:
    """The attempts of a task: ended and running ones, by node."""

    finished: deque[tuple[str, timedelta]] = field(default_factory=lambda: deque(maxlen=_COMPARED))
    failed: deque[tuple[str, Fault]] = field(default_factory=lambda: deque(maxlen=_COMPARED))
    # By job: its node, and when its payload started.
    running: dict[int, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result; `waits` are, for each broken node, its sort and the jobs that ended there before its suspension."""

    jobs: int
    attempts: int
    good_nodes_suspended: int
    waits: tuple[tuple[str, int | None], ...]
    failed_by_users: int
    failed_by_nodes: int


class MishapWorld:
    """Runs until all jobs have ended."""

    def __init__(
        self, *, nodes: int, slots: int, users: int, jobs: int, hours: float, seed: int
    ) -> None:
        self._rng = Random(seed)
        span = hours * 3600
        self._tasks = {task.task_id: task for task in draw_tasks(self._rng, jobs, users, span)}
        broken = draw_broken(self._rng, nodes, span)
        self._hosts = {
            f"node{n}": _Host(Node(NodeKey("SIM", f"node{n}"), _BEGINNING), slots, broken.get(n))
            for n in range(nodes)
        }
        self._known = {task_id: _Known() for task_id in self._tasks}
        self._jobs: dict[int, Job] = {}
        self._tried: dict[int, list[Tried]] = {}
        self._matchmaker = Matchmaker(Rules(100, timedelta(0), 0))
        self._events: list[tuple[float, int, str, object]] = []
        self._numbers = count(1)
        self._attempts = 0
        self._open = 0

    def run(self) -> Outcome:
        """Runs the simulation."""
        for task in self._tasks.values():
            self._at(task.arrival, "arrive", task)
        for name in self._hosts:
            self._at(0.0, "ask", name)
        while self._events and (self._open or any(e[2] == "arrive" for e in self._events)):
            now = self._events[0][0]
            while self._events and self._events[0][0] <= now:
                _, _, kind, what = heapq.heappop(self._events)
                self._happen(kind, what, now)
            for assignment in self._matchmaker.match(_time(now)):
                self._begin(assignment, now)
        return self._outcome()

    def _at(self, when: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (float(int(when) + 1), next(self._numbers), kind, what))

    def _happen(self, kind: str, what: object, now: float) -> None:
        if isinstance(what, MishapTask):
            for index in range(len(what.runtimes)):
                self._submit(what, index, now)
        elif kind == "ask" and isinstance(what, str):
            self._ask(what, now)
        elif kind == "again" and isinstance(what, int):
            self._offer(self._jobs[what], now)
        elif isinstance(what, tuple):
            job_id, name, reason, payload_s, begun = what
            self._end(job_id, name, reason, payload_s, begun, now)

    def _submit(self, task: MishapTask, index: int, now: float) -> None:
        job = Job(
            len(self._jobs) + 1, task.task_id, index, JobKind.RUN, JobState.ACTIVATED, task.user, "SIM",
            0, 0, 0, 3, 0, _time(now), _time(now),
        )  # fmt: skip
        self._jobs[job.job_id] = job
        self._open += 1
        self._offer(job, now)

    def _offer(self, job: Job, now: float) -> None:
        waiting = RunnableJob(
            job.job_id, 0, _time(now), (), Requirements(), job.task_id, job.user,
            avoids=frozenset(job.avoided),
        )  # fmt: skip
        self._matchmaker.add([waiting], _time(now))

    def _ask(self, name: str, now: float) -> None:
        """Replaces the node's poll by one for as many jobs as it may get."""
        host = self._hosts[name]
        self._matchmaker.cancel([name])
        condition = host.node.condition(_time(now))
        room = host.free - host.running
        if condition is Condition.PROBATION:
            room = 1 if not host.running else 0
        if condition in {Condition.OPEN, Condition.PROBATION} and room > 0:
            doubts = host.doubts if now < host.doubts_until else frozenset()
            self._matchmaker.ask([Request(name, host.node.key, Requirements(), room, doubts)])
        elif condition is Condition.SUSPENDED:
            self._matchmaker.set_live(host.node.key, live=False)

    def _begin(self, assignment: Assignment, now: float) -> None:
        name, job = assignment.request_id, self._jobs[assignment.match.job_id]
        host = self._hosts[name]
        host.running += 1
        self._attempts += 1
        reason, span, payload = self._fate(job, host, now)
        self._jobs[job.job_id] = replace(job, attempt=job.attempt + 1)
        self._known[job.task_id].running[job.job_id] = name, now + STAGE_IN_S + 5
        self._at(now + span, "end", (job.job_id, name, reason, payload, now))
        self._at(now + _ASKS_S, "ask", name)

    def _fate(self, job: Job, host: _Host, now: float) -> tuple[str, float, float]:
        """The reason with which an attempt ends (empty: success), its duration, and that of its payload, in seconds."""
        task = self._tasks[job.task_id]
        runtime = task.runtimes[job.index]
        sort = host.broken.sort if host.broken is not None and now >= host.broken.since else None
        if sort is Sort.FULL_DISK:
            return "NO_LOCAL_SPACE", 5.0, 0.0
        if sort is Sort.WRONG_BYTES:
            return "INPUT_CHECKSUM_MISMATCH", STAGE_IN_S, 0.0
        mistake = task.mistake
        fails = mistake is not None and job.index in task.failing
        if mistake is not None and mistake.passing:
            fails = self._rng.random() < mistake.jobs
        if fails and mistake is not None and mistake.reason == "INPUT_MISSING":
            return mistake.reason, 5.0, 0.0
        if sort is Sort.NO_PROGRAM:
            return "PAYLOAD_NOT_FOUND", STAGE_IN_S, 0.0
        if sort is Sort.NO_EXEC:
            return "PAYLOAD_NOT_EXECUTABLE", STAGE_IN_S, 0.0
        if sort is Sort.SLOW:
            runtime *= SLOW_FACTOR
        if fails and mistake is not None:
            spent = runtime * mistake.part
            return mistake.reason, STAGE_IN_S + spent, spent
        if task.wall_s is not None and runtime > task.wall_s:
            return "WALL_TIME_EXCEEDED", STAGE_IN_S + task.wall_s, task.wall_s
        return "", STAGE_IN_S + runtime, runtime

    def _end(
        self, job_id: int, name: str, reason: str, payload_s: float, begun: float, now: float
    ) -> None:
        host, job = self._hosts[name], self._jobs[job_id]
        host.running -= 1
        # Attempts that started before the node broke are not affected.
        began_broken = host.broken is not None and begun >= host.broken.since
        if began_broken and host.suspended_after is None:
            host.ended_broken += 1
        known = self._known[job.task_id]
        del known.running[job_id]
        fault = FAULTS[reason] if reason else None
        payload = timedelta(seconds=payload_s)
        if fault is None:
            known.finished.appendleft((name, payload))
            self._jobs[job_id] = replace(job, state=JobState.FINISHED)
            self._open -= 1
        else:
            self._judge(job, name, reason, now)
            known.failed.appendleft((name, fault))
        ended = EndedAttempt(
            job_id, job.task_id, job.user, fault, _time(now), payload, _time(begun)
        )
        self._judge_node(host, ended, now)
        self._at(now + _ASKS_S, "ask", name)

    def _judge(self, job: Job, name: str, reason: str, now: float) -> None:
        error = JobError(ErrorComponent.PILOT, 0, reason, "")
        tried = self._tried.setdefault(job.job_id, [])
        tried.append(Tried(name, error))
        suspects = {n for n, host in self._hosts.items() if host.node.is_suspended}
        known = self._known[job.task_id]
        started = bool(known.finished) or any(since <= now for _, since in known.running.values())
        verdict = judge(job, tried, suspects, _time(now), started_elsewhere=started)
        job = replace(
            job,
            state=verdict.state,
            failures=job.failures + (verdict.count is Count.FAILED),
            losses=job.losses + (verdict.count is Count.LOST),
            avoided=verdict.avoided,
        )
        self._jobs[job.job_id] = job
        if verdict.state is JobState.FAILED:
            self._open -= 1
        else:
            pause = verdict.not_before - _time(now) if verdict.not_before else timedelta(0)
            self._at(now + pause.total_seconds(), "again", job.job_id)

    # Like `usecases.leases.node_health`, with the data of this object instead of the database.

    def _judge_node(self, host: _Host, ended: EndedAttempt, now: float) -> None:
        host.window.appendleft(ended)
        there = self._elsewhere(host, ended.task_id, now)
        match host.node.condition(_time(now)):
            case Condition.PROBATION:
                result = probe(ended, there)
                if result is Probe.BAD:
                    self._suspend(host, now)
                elif result is Probe.GOOD:
                    good = host.node.good_probes + 1
                    host.node = replace(host.node, good_probes=good)
                    if good >= GOOD_PROBES:
                        host.node = replace(
                            host.node,
                            is_suspended=False,
                            until=None,
                            good_probes=0,
                            change_time=_time(now),
                        )
                        host.window.clear()
            case Condition.OPEN:
                slow = ended.fault is None and there.is_slow(ended.payload)
                bad = ended.fault is not None and ended.fault.kind.evidence is not Evidence.NONE
                if (slow or bad) and needs_comparison(list(host.window), slow=slow):
                    tasks = {attempt.task_id for attempt in host.window}
                    all_there = {task: self._elsewhere(host, task, now) for task in tasks}
                    case = case_against(list(host.window), all_there)
                    if case.is_enough:
                        self._suspend(host, now)
                    elif case.exhausted:
                        host.doubts, host.doubts_until = case.exhausted, now + DOUBT.total_seconds()
            case _:
                pass

    def _elsewhere(self, host: _Host, task_id: int, now: float) -> Elsewhere:
        here, known, found = host.node.key.node, self._known[task_id], Elsewhere()
        for name, payload in known.finished:
            if name != here:
                found.record(None, payload)
        for name, fault in known.failed:
            if name != here and not self._hosts[name].node.is_suspended:
                found.record(fault)
        for name, since in known.running.values():
            if name != here and since <= now:
                found.record_passed(Step.START)
        return found

    def _suspend(self, host: _Host, now: float) -> None:
        number, span = suspension(host.node, _time(now))
        until = _time(now) + span
        host.node = replace(
            host.node,
            is_suspended=True,
            until=until,
            good_probes=0,
            suspensions=number,
            change_time=_time(now),
        )
        host.window.clear()
        host.suspensions += 1
        if host.suspended_after is None:
            host.suspended_after = host.ended_broken
        self._at(now + span.total_seconds(), "ask", host.node.key.node)

    def _outcome(self) -> Outcome:
        failed = [job for job in self._jobs.values() if job.state is JobState.FAILED]
        own = sum(self._is_own(job) for job in failed)
        broken = [host for host in self._hosts.values() if host.broken is not None]
        return Outcome(
            jobs=len(self._jobs),
            attempts=self._attempts,
            good_nodes_suspended=sum(
                h.suspensions for h in self._hosts.values() if h.broken is None
            ),
            waits=tuple(
                (host.broken.sort.value, host.suspended_after if host.suspensions else None)
                for host in broken
                if host.broken is not None
            ),
            failed_by_users=own,
            failed_by_nodes=len(failed) - own,
        )

    def _is_own(self, job: Job) -> bool:
        task = self._tasks[job.task_id]
        return task.mistake is not None and (task.mistake.passing or job.index in task.failing)


def _time(seconds: float) -> datetime:
    return _BEGINNING + timedelta(seconds=seconds)
