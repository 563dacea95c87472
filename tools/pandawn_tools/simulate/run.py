"""Runs a workload with one policy after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pandawn_tools.simulate.brokered import Brokered
from pandawn_tools.simulate.cluster import Cluster
from pandawn_tools.simulate.figures import Figures, figures
from pandawn_tools.simulate.lookahead import Panda2010, fewest_bytes, fifo
from pandawn_tools.simulate.policy import Policy
from pandawn_tools.simulate.reports import Faults
from pandawn_tools.simulate.workload import SimJob, Statistics, statistics
from pandawn_tools.simulate.world import World


@dataclass(frozen=True, slots=True)
class Setting:
    """The setting of a run.

    `locality_wait_s` and `priority_band` are parameters of the queue; `faults` affect the catalog that the policy
    `pandawn` uses; `seed` is for all random numbers.
    """

    cluster: Cluster = field(default_factory=Cluster)
    locality_wait_s: float = 600.0
    priority_band: int = 100
    faults: Faults = field(default_factory=Faults)
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of each policy on one workload."""

    workload: Statistics
    policies: dict[str, Figures]


_MAKERS: Final[dict[str, Callable[[Setting], Policy]]] = {
    "fifo": lambda setting: fifo(setting.seed),
    "panda2010": lambda setting: Panda2010(setting.seed),
    "bytes-10": lambda setting: fewest_bytes(10, setting.seed),
    "bytes-100": lambda setting: fewest_bytes(100, setting.seed),
    "pandawn": lambda setting: Brokered(
        locality_wait_s=setting.locality_wait_s,
        priority_band=setting.priority_band,
        faults=setting.faults,
        seed=setting.seed,
    ),
}

POLICIES: Final = tuple(_MAKERS)
"""Names of the policies."""


def compare(
    jobs: Sequence[SimJob],
    setting: Setting,
    policies: Sequence[str],
    say: Callable[[str], None],
) -> Comparison:
    """Runs `jobs`, sorted by time, with each policy; reports the progress to `say`."""
    workload = statistics(jobs)
    found = {}
    for name in policies:
        begin = time.monotonic()
        world = World(jobs, setting.cluster, _MAKERS[name](setting), setting.seed)
        found[name] = figures(jobs, world.run())
        took = time.monotonic() - begin
        say(f"{name}: {found[name].byte_hit:.1%} of the bytes saved ({took:.1f} s)")
    return Comparison(workload, found)
