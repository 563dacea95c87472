from __future__ import annotations

from collections.abc import Sequence

from pandawn_tools.simulate.cluster import Node
from pandawn_tools.simulate.lookahead import EXPIRY_S, Lookahead, Panda2010, fewest_bytes, fifo
from pandawn_tools.simulate.workload import SimJob
from tests.unit.simulate.factories import MB, make_job, make_nodes


def chosen(policy: Lookahead, jobs: Sequence[SimJob], node: Node, now: float = 0.0) -> list[int]:
    """The jobs in the order in which one node gets them, if its slot is free again at once."""
    policy.begin(jobs, [node])
    policy.arrive(range(len(jobs)), now)
    order = []
    while given := policy.choose(now):
        order += [one.job for one in given]
        policy.slot_free(node, now)
    return order


def test_first_come_first_served() -> None:
    (node,) = make_nodes(1)
    assert chosen(fifo(1), [make_job(n) for n in range(5)], node) == [0, 1, 2, 3, 4]


def test_higher_priority_goes_first() -> None:
    (node,) = make_nodes(1)
    jobs = [make_job(priority=0), make_job(priority=5), make_job(priority=5)]
    assert chosen(fifo(1), jobs, node) == [1, 2, 0]


def test_fewest_bytes_first_among_those_that_are_looked_at() -> None:
    (node,) = make_nodes(1)
    node.cache[7] = 60 * MB
    jobs = [make_job(1), make_job(2), make_job(7)]
    assert chosen(fewest_bytes(2, 1), jobs, node)[:2] == [0, 2]
    assert chosen(fewest_bytes(3, 1), jobs, node)[:2] == [2, 0]


def test_a_file_on_its_way_counts_as_there() -> None:
    (node,) = make_nodes(1)
    node.coming[7] = 10.0
    assert chosen(fewest_bytes(2, 1), [make_job(1), make_job(7)], node) == [1, 0]


def test_of_2010_counts_files_not_bytes_and_enters_them_when_a_job_is_given() -> None:
    (node,) = make_nodes(1)
    jobs = [make_job(1, 2), make_job(3), make_job(1, 9), make_job(1, 2)]
    assert chosen(Panda2010(1), jobs, node) == [0, 3, 2, 1]


def test_of_2010_does_not_see_the_eleventh_job() -> None:
    (node,) = make_nodes(1)
    jobs = [make_job(n) for n in range(11)] + [make_job(0)]
    assert chosen(Panda2010(1), jobs, node)[:3] == [0, 1, 11]


def test_of_2010_forgets_after_a_day_and_when_a_node_was_wiped() -> None:
    (node,) = make_nodes(1)
    policy = Panda2010(1)
    policy.begin([make_job(1), make_job(2), make_job(1), make_job(3), make_job(1)], [node])
    policy.arrive([0], 0.0)
    assert policy.choose(0.0)[0].job == 0
    policy.arrive([1, 2], EXPIRY_S)
    policy.slot_free(node, EXPIRY_S)
    assert policy.choose(EXPIRY_S)[0].job == 1
    policy.repaired(node, EXPIRY_S)
    policy.slot_free(node, EXPIRY_S)
    assert policy.choose(EXPIRY_S)[0].job == 2


def test_a_failed_node_gets_nothing() -> None:
    nodes = make_nodes(2)
    policy = fifo(1)
    policy.begin([make_job(1), make_job(2)], nodes)
    policy.failed(nodes[0], 0.0)
    policy.arrive([0, 1], 0.0)
    assert [given.node for given in policy.choose(0.0)] == [nodes[1]]
