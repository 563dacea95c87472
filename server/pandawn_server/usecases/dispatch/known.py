"""Pilots and tasks that this process has read, so that the hot path does not read them at each call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import takewhile

from pandawn_server.domain.leases.pilots import Pilot, PilotState
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.domain.tasks.tasks import Task
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import pilots
from pandawn_server.storage.tasks import tasks

PILOT_CHECK = timedelta(seconds=15)
"""After this time it is looked up whether a pilot was ended by another process: of many at once, in the
background. One that was may get a job meanwhile, as it may in the moment before its end; its leases
end with it or lapse."""

PILOT_AGE = timedelta(minutes=1)
"""For how long what was read of a pilot is good where nobody looks it up: the background is behind, or stuck."""

MAX_PILOTS = 200_000
"""Pilots remembered; with more, all are forgotten and read anew."""

MAX_TASKS = 5_000
"""Tasks remembered, likewise."""


class KnownPilot:
    """A pilot as it was read, and what was noted of it since.

    `checked` is when it was live for sure, `request_id` names its last request for jobs that came here.
    """

    __slots__ = ("checked", "contact_time", "offer", "pilot", "request_id")

    def __init__(self, pilot: Pilot, checked: datetime) -> None:
        self.pilot = pilot
        self.checked = checked
        self.contact_time = pilot.contact_time
        self.offer = pilot.offer
        self.request_id = ""


class Known:
    """What was read. Of pilots to be used by one thread at a time, but for what says otherwise."""

    def __init__(self) -> None:
        # Those that were looked up longest ago first.
        self._pilots: dict[str, KnownPilot] = {}
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
            if known is not None and known.checked > oldest:
                found[pilot_id] = known.pilot
            else:
                missing.append(pilot_id)
        if missing:
            if len(self._pilots) > MAX_PILOTS:
                self._pilots.clear()
            self.forget_pilots(missing)
            for pilot in pilots.get_pilots(tx, missing).values():
                if pilot.state is PilotState.LIVE:
                    found[pilot.pilot_id] = pilot
                    self._pilots[pilot.pilot_id] = KnownPilot(pilot, now)
        return found

    def pilot(self, pilot_id: str) -> KnownPilot | None:
        """What is remembered of a pilot."""
        return self._pilots.get(pilot_id)

    def may_repeat(self, pilot_id: str, request_id: str) -> bool:
        """Whether a request for jobs may be one that was served before, and notes that it came.

        It may if it is the pilot's last one, or the first one that comes here: those before went elsewhere perhaps.
        A pilot whose repeat comes here after other requests of it is not recognised.
        """
        known = self._pilots.get(pilot_id)
        if known is None:
            return True
        before, known.request_id = known.request_id, request_id
        return before in {"", request_id}

    def unchecked_pilots(self, now: datetime) -> list[str]:
        """The pilots to be looked up again."""
        try:
            return _checked_before(now - PILOT_CHECK, self._pilots.items())
        except RuntimeError:
            # Another thread forgot a pilot meanwhile. A copy is made in one step, and takes its time.
            return _checked_before(now - PILOT_CHECK, list(self._pilots.items()))

    def note_checked(self, pilot_ids: Iterable[str], ended: Collection[str], now: datetime) -> None:
        """Takes down that pilots were looked up, and which of them have ended."""
        for pilot_id in pilot_ids:
            known = self._pilots.pop(pilot_id, None)
            if known is not None and pilot_id not in ended:
                # One that was read anew meanwhile stands further back, and may: it is only checked earlier.
                known.checked = max(known.checked, now)
                self._pilots[pilot_id] = known

    def note_contacts(self, pilot_ids: Iterable[str], now: datetime) -> None:
        """Takes down that contacts were noted."""
        for pilot_id in pilot_ids:
            known = self._pilots.get(pilot_id)
            if known is not None:
                known.contact_time = now

    def note_offers(self, offers: Mapping[str, Requirements]) -> None:
        """Takes down that offers were noted, by pilot."""
        for pilot_id, offer in offers.items():
            known = self._pilots.get(pilot_id)
            if known is not None:
                known.offer = offer

    def forget_pilots(self, pilot_ids: Iterable[str]) -> None:
        """Forgets pilots that have ended. Any thread may call it."""
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


def _checked_before(time: datetime, known: Iterable[tuple[str, KnownPilot]]) -> list[str]:
    """Those at the beginning that were looked up before a time."""
    return [pilot_id for pilot_id, _ in takewhile(lambda item: item[1].checked <= time, known)]
