"""Payloads that the kernel killed for want of memory, and those that others killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pandawn_pilot.payload import run as payload_module
from pandawn_pilot.payload.oom import oom_kills
from tests.unit.pilot.payloads import make_program, reason_of, run


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/slurm/job_7\n", "slurm/job_7/memory.events"),
        ("9:cpuset:/a\n4:memory:/slurm/job_7\n0::/x\n", "memory/slurm/job_7/memory.oom_control"),
    ],
)
def test_kills_are_counted_in_the_batch_jobs_own_group(
    tmp_path: Path, group: str, file: str
) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "self/cgroup", group)
    write(proc / "vmstat", "nr_free_pages 7\noom_kill 90\n")
    # The root group has no such file: then the machine's count is the one there is.
    assert oom_kills(proc, cgroups) == 90
    write(cgroups / file, "low 0\noom 1\noom_kill 3\noom_group_kill 0\n")
    assert oom_kills(proc, cgroups) == 3


def test_a_system_that_does_not_count_says_nothing(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("script", "counts", "reason"),
    [
        ("kill -9 $$", [3, 4], "MEMORY_EXCEEDED"),
        # A shell tells of its child's end by its status.
        ("sh -c 'kill -9 $$'; exit $?", [3, 4], "MEMORY_EXCEEDED"),
        ("kill -9 $$", [3, 3], "PAYLOAD_KILLED"),
        ("kill -9 $$", [None, None], "PAYLOAD_KILLED"),
        ("exit 1", [3], "PAYLOAD_FAILED"),
    ],
)
def test_what_the_kernel_killed_for_want_of_memory_is_told_from_what_others_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    counts: list[int | None],
    reason: str,
) -> None:
    monkeypatch.setattr(payload_module, "oom_kills", iter(counts).__next__)
    end = run(make_program(tmp_path, "/bin/sh", "-c", script))
    assert reason_of(end) == reason
