"""The CPU time of an AcquireJobs call by function of the server, measured with py-spy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pandawn_tools.bench.acquire import AcquireBench
from pandawn_tools.bench.load import Shape
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.rows import Pool

PROFILE_S = 20.0
"""The length of the sampled slice."""

_RATE_HZ = 200
_MOST_LINES = 60
_LINE_NUMBER = re.compile(r":\d+\)$")
_FRAMEWORK = re.compile(
    r"\((threading\.py|concurrent/futures/thread\.py|<frozen runpy>|asyncio/runners\.py|typer/|"
    r"pandawn_server/flags\.py|pandawn_tools/bench/server\.py)|^thread \("
)
"""Frames that are below all others, and carry no information."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack and how often it was sampled; frames from the outside in, the first is the thread."""

    frames: tuple[str, ...]
    samples: int


def profile_acquire(bench: AcquireBench, pool: Pool, shape: Shape, file: Path) -> None:
    """Runs a slice of AcquireJobs under py-spy; writes its stacks to `file`, and prints tables.

    The stacks are in the format of flame graph tools. Only threads that hold the interpreter's lock are
    sampled; the CPU time by thread also includes C code without the lock. Raises `BenchError`.
    """
    pid = bench.processes.server
    sampler = _start_sampler(pid, file)
    before = _cpu_by_thread(pid)
    load = Shape(shape.connections, shape.streams, shape.warm_s, PROFILE_S)
    found = bench.run_acquire(pool, load)
    after = _cpu_by_thread(pid)
    if sampler.wait():
        raise BenchError(f"py-spy failed: {sampler.communicate()[1].decode()[-500:]}")
    print(
        f"\nCPU by thread, us a call of {found.cpu_us.server:.0f} in the measured window",
        file=sys.stderr,
    )
    calls = found.load.total_ok
    used = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    for name in sorted(used, key=lambda name: -used[name]):
        print(f"{1e6 * used[name] / calls:7.0f}  {name}", file=sys.stderr)
    stacks = list(parse_stacks(file.read_text().splitlines()))
    for line in report(stacks, found.cpu_us.server):
        print(line, file=sys.stderr)


def _start_sampler(pid: int, file: Path) -> subprocess.Popen[bytes]:
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise BenchError("py-spy is not installed: pip install 'pandawn[bench]'")
    return subprocess.Popen(
        [
            *(program, "record", "--gil", "--threads", "--function", "--nonblocking"),
            *("--rate", str(_RATE_HZ), "--duration", f"{PROFILE_S:.0f}"),
            *("--format", "raw", "--output", str(file), "--pid", str(pid)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _cpu_by_thread(pid: int) -> dict[str, float]:
    """CPU seconds of the threads of a process, by name; ended threads are omitted."""
    used: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if int(task.name) == pid:
            name = "event loop"
        elif name.startswith("python"):
            name = "use cases and other threads of Python"
        # Nanoseconds on the CPU, nanoseconds waiting for it, slices.
        on_cpu = int((task / "schedstat").read_text().split()[0]) / 1e9
        used[name] = used.get(name, 0.0) + on_cpu
    return used


def parse_stacks(lines: Iterable[str]) -> Iterable[Stack]:
    """Reads py-spy's raw format: frames joined by semicolons, a blank, and a count."""
    for line in lines:
        frames, _, samples = line.rpartition(" ")
        yield Stack(
            tuple(_LINE_NUMBER.sub(")", frame) for frame in frames.split(";")), int(samples)
        )


def report(stacks: Iterable[Stack], cpu_us: float) -> list[str]:
    """Two lists, in microseconds per call: the time of functions themselves, and with all that they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for stack in stacks:
        total += stack.samples
        own[stack.frames[-1]] += stack.samples
        # A recursive function counts once.
        for frame in set(stack.frames):
            if not _FRAMEWORK.search(frame):
                whole[frame] += stack.samples
    if not total:
        return ["no samples"]
    lines = []
    for title, counts in (("itself", own), ("with what it calls", whole)):
        lines.append(f"\nus a call {title}, of {cpu_us:.0f}, from {total} samples")
        lines += [
            f"{cpu_us * samples / total:7.0f}  {samples / total:6.1%}  {frame}"
            for frame, samples in counts.most_common(_MOST_LINES)
        ]
    return lines
