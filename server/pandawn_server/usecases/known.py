"""Pilots and tasks that this process has read, so that the hot path does not read them at each call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from pandawn_server.domain.jobs import Requirements
from pandawn_server.domain.pilots import Pilot, PilotState
from pandawn_server.domain.tasks import Task
from pandawn_server.storage import pilots, tasks
from pandawn_server.storage.database import Transaction

PILOT_AGE = timedelta(seconds=20)
"""For how long what was read of a pilot is good. One that another process ends may get a job meanwhile,
as it may in the moment before its end; its leases end with it or lapse."""

MAX_PILOTS = 200_000
"""Pilots remembered; with more, all are forgotten and read anew."""

MAX_TASKS = 5_000
"""Tasks remembered, likewise."""


class Known:
    """What was read of pilots and tasks. To be used by one thread at a time."""

    def __init__(self) -> None:
        self._pilots: dict[str, tuple[Pilot, datetime]] = {}
        self._tasks: dict[int, Task] = {}

    def live_pilots(
        self, tx: Transaction, pilot_ids: Collection[str], now: datetime
    ) -> dict[str, Pilot]:
        """Those of the pilots that are live, by identifier."""
        found: dict[str, Pilot] = {}
        missing: list[str] = []
        oldest = now - PILOT_AGE
        for pilot_id in pilot_ids:
            known = self._pilots.get(pilot_id)
            if known is not None and known[1] > oldest:
                found[pilot_id] = known[0]
            else:
                missing.append(pilot_id)
        if missing:
            if len(self._pilots) > MAX_PILOTS:
                self._pilots.clear()
            for pilot in pilots.get_pilots(tx, missing).values():
                if pilot.state is PilotState.LIVE:
                    found[pilot.pilot_id] = pilot
                    self._pilots[pilot.pilot_id] = (pilot, now)
                else:
                    self._pilots.pop(pilot.pilot_id, None)
        return found

    def note_contacts(self, contacts: Iterable[Pilot], now: datetime) -> None:
        """Takes down that contacts were noted."""
        for pilot in contacts:
            known = self._pilots.get(pilot.pilot_id)
            if known is not None:
                self._pilots[pilot.pilot_id] = (replace(known[0], contact_time=now), known[1])

    def note_offers(self, offers: Mapping[str, Requirements]) -> None:
        """Takes down that offers were noted, by pilot."""
        for pilot_id, offer in offers.items():
            known = self._pilots.get(pilot_id)
            if known is not None:
                self._pilots[pilot_id] = (replace(known[0], offer=offer), known[1])

    def forget_pilots(self, pilot_ids: Iterable[str]) -> None:
        """Forgets pilots that have ended."""
        for pilot_id in pilot_ids:
            self._pilots.pop(pilot_id, None)

    def tasks(self, tx: Transaction, task_ids: Collection[int]) -> dict[int, Task]:
        """Tasks by identifier."""
        found = {i: task for i in task_ids if (task := self._tasks.get(i)) is not None}
        missing = [task_id for task_id in task_ids if task_id not in found]
        if missing:
            if len(self._tasks) > MAX_TASKS:
                self._tasks.clear()
            read = tasks.get_tasks(tx, missing)
            # A task never changes but for its library, which a build job makes, and its retry anew.
            self._tasks |= {i: task for i, task in read.items() if not task.spec.build}
            found |= read
        return found
