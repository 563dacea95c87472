"""Judges nodes by how attempts end on them: suspends, tries by probes, and opens again.

Works inside the transaction of its caller, after the ends are stored.
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
    is_worth_a_look,
    probe,
    suspension,
)
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import node_history, nodes

SHOWN = 10
"""Attempts that are named as evidence."""


def judge_nodes(
    tx: Transaction,
    ended: Mapping[NodeKey, Sequence[EndedAttempt]],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> tuple[list[Event], dict[NodeKey, frozenset[str]]]:
    """Judges the nodes on which attempts ended that may say something of them.

    Returns what to tell, and of nodes that get jobs whose word was heard: others' jobs will tell more.

    Of a node that gets jobs those are failures and slow ones; of one on probation each attempt is.
    """
    if not ended:
        return [], {}
    known = nodes.get_nodes(tx, ended.keys())
    told: list[Event] = []
    doubts: dict[NodeKey, frozenset[str]] = {}
    for key in sorted(known.keys()):
        node = known[key]
        match node.condition(now):
            case Condition.PROBATION:
                told += _judge_probes(tx, key, ended[key], restricted, now)
            case Condition.OPEN:
                slow = any(attempt.fault is None for attempt in ended[key])
                case, window = case_of(tx, node, restricted, slow=slow)
                if case is not None and case.is_enough:
                    told.append(_suspend(tx, node, case.told(), evidence_of(window), now))
                elif case is not None and case.heard:
                    doubts[key] = case.heard
            case Condition.SUSPENDED | Condition.DRAINED:
                # What began before says nothing that was not known.
                pass
    return told, doubts


def case_of(
    tx: Transaction, node: Node, restricted: Mapping[NodeKey, Node], *, slow: bool
) -> tuple[Case | None, list[EndedAttempt]]:
    """What the last attempts on a node say against it; None where they cannot, whatever the neighbours say."""
    window = node_history.last_ended(tx, node.key, WINDOW, node.judged_since)
    if not is_worth_a_look(window, slow=slow):
        return None, window
    tasks = {attempt.task_id for attempt in window}
    there = node_history.elsewhere(tx, node.key, tasks, restricted.keys())
    return case_against(window, there), window


def evidence_of(window: Sequence[EndedAttempt]) -> tuple[str, ...]:
    """The last attempts in words, newest first."""
    return tuple(
        f"{a.end_time:%H:%M:%S} UTC job {a.job_id} of task {a.task_id} of {a.user}: "
        f"{a.fault.reason or a.fault.kind.name if a.fault else 'went well'}"
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
    text = f"no jobs for {node.key.node} for {minutes} min, then one at a time: {reason}"
    return Event(now, EventKind.NODE_SUSPENDED, text, node=node.key.node)


def _judge_probes(
    tx: Transaction,
    key: NodeKey,
    ended: Sequence[EndedAttempt],
    restricted: Mapping[NodeKey, Node],
    now: datetime,
) -> list[Event]:
    # Locked: two probes that end at once count as two.
    node = nodes.lock_nodes(tx, [key])[key]
    there = node_history.elsewhere(tx, key, {a.task_id for a in ended}, restricted.keys())
    for attempt in ended:
        said = probe(attempt, there[attempt.task_id])
        if said is Probe.BAD:
            reason = attempt.fault.reason if attempt.fault else "slow"
            text = f"its probe, job {attempt.job_id}, failed too ({reason}); {node.reason}"
            return [_suspend(tx, node, text[:1000], node.evidence, now)]
        if said is Probe.GOOD:
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
    text = f"{key.node} gets jobs again: {GOOD_PROBES} of them went well, one at a time"
    return [Event(now, EventKind.NODE_RESUMED, text, node=key.node)]
