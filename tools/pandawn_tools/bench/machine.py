"""The machine on which the benchmark runs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine; `load_average` is that of the minute before the benchmark."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    grpcio: str
    date: str
    load_average: float


def this_machine() -> Machine:
    """Reads the properties of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(pages / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        grpcio=version("grpcio"),
        date=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        load_average=round(os.getloadavg()[0], 1),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
