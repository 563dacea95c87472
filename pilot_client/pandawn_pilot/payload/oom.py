"""Counts processes that the kernel's OOM killer killed."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_COUNTER = "oom_kill"


def oom_kills(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """OOM kills in our control group, else on the machine; None if the kernel does not say.

    Payloads are in the pilot's group. A kill caused by a parent group's limit counts in the killed group.
    """
    for counters in (*_of_group(proc, cgroups), proc / "vmstat"):
        try:
            lines = counters.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == _COUNTER and value.isdigit():
                return int(value)
    return None


def _of_group(proc: Path, cgroups: Path) -> list[Path]:
    try:
        groups = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found: list[Path] = []
    for group in groups:
        number, _, rest = group.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            found.append(cgroups / "memory" / path.lstrip("/") / "memory.oom_control")
        elif number == "0" and not controllers:
            found.append(cgroups / path.lstrip("/") / "memory.events")
    return found
