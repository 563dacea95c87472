"""The settings of a pilot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.node.accounts import AccountChoice
from pandawn_pilot.pcache.command import PcacheCommand
from pandawn_transports.xrootd.address import Location


@dataclass(frozen=True)
class PilotOptions:
    """All settings of a pilot; None means no limit, or the server's value."""

    server: str
    queue: str
    node: str
    work_dir: Path
    # None: no cache; each job transfers its own inputs.
    cache_dir: Path | None
    # The site's pcache, used in place of the pilots' own cache; None: not used.
    pcache: PcacheCommand | None
    # High water mark of the cache; None: a share of its disk.
    cache_bytes: int | None
    # Low water mark as a fraction of the high one.
    cache_low_water: float
    # What the node's own XRootD server serves; None: no server.
    local_xrootd: Location | None
    # Jobs at a time.
    max_jobs: int
    # Seconds without a job after which the pilot ends.
    idle_exit: float | None
    # Total seconds of the pilot.
    wall_time: float | None
    # Seconds from the first signal to the end; None: as long as the jobs take.
    grace: float | None
    # Seconds that the server may be unreachable when the pilot starts.
    connect_timeout: float
    # Seconds between heartbeats.
    heartbeat: float | None
    # What the node offers to each job.
    cores: int | None
    memory_bytes: int | None
    disk_bytes: int | None
    # Identifier in the batch system; empty without one.
    batch_id: str
    keep_work_dir: bool
    # Accounts of payloads; None: the safest choice that this pilot can make.
    payload_user: AccountChoice | None
    # Whether the token file stays although payloads can read it.
    keep_token_file: bool
