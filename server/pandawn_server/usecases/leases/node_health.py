"""Judges nodes by how attempts end on them: suspends, probes and reopens them.

Runs inside the transaction of its caller, after the ends are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.nodes import (
    GOOD_PROBES,
    WINDOW,
    Case,
    Condition,
    EndedAttempt,
    Node,
    Probe,
    case_against,
    needs_comparison,
    probe,
    suspension,
)
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import node_history, nodes

SHOWN = 10
"""The number of attempts that a suspension lists as evidence."""


def judge_nodes(
    tx: Transaction,
    ended: Mapping[NodeKey, Sequence[EndedAttempt]],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> tuple[list[Event], dict[NodeKey, frozenset[str]]]:
    """Judges nodes by attempts that just ended: on an open node failed and slow ones, on probation all.

    Returns the events, and by open node the users whose jobs have reached their bound there: only other
    users' jobs can still add evidence.
    """
    if not ended:
        return [], {}
    known = nodes.get_nodes(tx, ended.keys())
    happened: list[Event] = []
    doubts: dict[NodeKey, frozenset[str]] = {}
    for key in sorted(known.keys()):
        node = known[key]
        match node.condition(now):
            case Condition.PROBATION:
                happened += _judge_probes(tx, key, ended[key], restricted, now)
            case Condition.OPEN:
                slow = any(attempt.fault is None for attempt in ended[key])
                case, window = case_of(tx, node, restricted, slow=slow)
                if case is not None and case.is_enough:
                    happened.append(_suspend(tx, node, case.summary(), evidence_of(window), now))
                elif case is not None and case.exhausted:
                    doubts[key] = case.exhausted
            case Condition.SUSPENDED | Condition.DRAINED:
                # Attempts that started before the suspension are no new evidence.
                pass
    return happened, doubts


def case_of(
    tx: Transaction, node: Node, restricted: Mapping[NodeKey, Node], *, slow: bool
) -> tuple[Case | None, list[EndedAttempt]]:
    """The case against a node, and its last attempts. The case is None if these cannot make one in any comparison."""
    window = node_history.last_ended(tx, node.key, WINDOW, node.judged_since)
    if not needs_comparison(window, slow=slow):
        return None, window
    tasks = {attempt.task_id for attempt in window}
    there = node_history.elsewhere(tx, node.key, tasks, restricted.keys())
    return case_against(window, there), window


def evidence_of(window: Sequence[EndedAttempt]) -> tuple[str, ...]:
    """The last attempts as text, newest first."""
    return tuple(
        f"{a.end_time:%H:%M:%S} UTC job {a.job_id} of task {a.task_id} of {a.user}: "
        f"{a.fault.reason or a.fault.kind.name if a.fault else 'succeeded'}"
        for a in window[:SHOWN]
    )


def _suspend(
    tx: Transaction, node: Node, reason: str, evidence: tuple[str, ...], now: datetime
) -> Event:
    number, span = suspension(node, now)
    nodes.save(
        tx,
        replace(
            node,
            is_suspended=True,
            until=now + span,
            reason=reason,
            by="",
            good_probes=0,
            suspensions=number,
            change_time=now,
            judged_since=now,
            evidence=evidence,
        ),
    )
    minutes = int(span.total_seconds() // 60)
    text = f"{node.key.node} gets no jobs for {minutes} min, then one at a time: {reason}"
    return Event(now, EventKind.NODE_SUSPENDED, text, node=node.key.node)


def _judge_probes(
    tx: Transaction,
    key: NodeKey,
    ended: Sequence[EndedAttempt],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> list[Event]:
    # Locked, so that two probes that end together count as two.
    node = nodes.lock_nodes(tx, [key])[key]
    there = node_history.elsewhere(tx, key, {a.task_id for a in ended}, restricted.keys())
    for attempt in ended:
        result = probe(attempt, there[attempt.task_id])
        if result is Probe.BAD:
            reason = attempt.fault.reason if attempt.fault else "slow"
            text = f"its probe, job {attempt.job_id}, failed too ({reason}); {node.reason}"
            return [_suspend(tx, node, text[:1000], node.evidence, now)]
        if result is Probe.GOOD:
            node = replace(node, good_probes=node.good_probes + 1)
    if node.good_probes < GOOD_PROBES:
        nodes.save(tx, node)
        return []
    nodes.save(
        tx,
        replace(
            node,
            is_suspended=False,
            until=None,
            reason="",
            good_probes=0,
            change_time=now,
            judged_since=now,
        ),
    )
    text = f"{key.node} gets jobs again: {GOOD_PROBES} probes succeeded, one at a time"
    return [Event(now, EventKind.NODE_RESUMED, text, node=key.node)]
