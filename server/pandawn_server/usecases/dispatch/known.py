"""Pilots and tasks that this process has read, so that polls do not read them each time."""

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
"""Age at which the background checks whether another process has ended a pilot, many at once. Until then an
ended pilot may still get a job, as it may just before its end; its leases end with it or expire."""

PILOT_AGE = timedelta(minutes=1)
"""Age at which a pilot is read again when the background has not checked it: it is late, or stuck."""

MAX_PILOTS = 200_000
"""Maximum number of pilots kept; beyond it all are dropped and read again."""

MAX_TASKS = 5_000
"""Maximum number of tasks kept; the same."""


class KnownPilot:
    """A pilot as read from the database, with later updates.

    `checked` is when it was last known to be live; `request_id` is its last request for jobs that came here.
    """

    __slots__ = ("checked", "contact_time", "offer", "pilot", "request_id")

    def __init__(self, pilot: Pilot, checked: datetime) -> None:
        self.pilot = pilot
        self.checked = checked
        self.contact_time = pilot.contact_time
        self.offer = pilot.offer
        self.request_id = ""


class Known:
    """Cache of pilots and tasks. Use the pilots' part from one thread at a time, unless a method says otherwise."""

    def __init__(self) -> None:
        # In order of the last check, oldest first.
        self._pilots: dict[str, KnownPilot] = {}
        self._tasks: dict[int, Task] = {}

    def live_pilots(
        self, tx: Transaction, pilot_ids: Collection[str], now: datetime
    ) -> dict[str, Pilot]:
        """The live ones of the pilots, by identifier."""
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
        """What is known of a pilot."""
        return self._pilots.get(pilot_id)

    def may_repeat(self, pilot_id: str, request_id: str) -> bool:
        """Records a request for jobs; returns whether it may repeat one that was already served.

        It may if it is the pilot's last request here, or its first here: earlier ones may have gone to other
        servers. A repeat that comes here after other requests of the pilot is not recognised.
        """
        known = self._pilots.get(pilot_id)
        if known is None:
            return True
        before, known.request_id = known.request_id, request_id
        return before in {"", request_id}

    def unchecked_pilots(self, now: datetime) -> list[str]:
        """The pilots that are due for a check."""
        try:
            return _checked_before(now - PILOT_CHECK, self._pilots.items())
        except RuntimeError:
            # Another thread removed a pilot meanwhile. A copy is atomic, but takes time.
            return _checked_before(now - PILOT_CHECK, list(self._pilots.items()))

    def record_checked(
        self, pilot_ids: Iterable[str], ended: Collection[str], now: datetime
    ) -> None:
        """Records that pilots were checked, and drops those that have ended."""
        for pilot_id in pilot_ids:
            known = self._pilots.pop(pilot_id, None)
            if known is not None and pilot_id not in ended:
                # A pilot read again meanwhile may move forward in the order: it is only checked earlier.
                known.checked = max(known.checked, now)
                self._pilots[pilot_id] = known

    def record_contacts(self, pilot_ids: Iterable[str], now: datetime) -> None:
        """Records the contacts that were stored."""
        for pilot_id in pilot_ids:
            known = self._pilots.get(pilot_id)
            if known is not None:
                known.contact_time = now

    def record_offers(self, offers: Mapping[str, Requirements]) -> None:
        """Records the offers that were stored, by pilot."""
        for pilot_id, offer in offers.items():
            known = self._pilots.get(pilot_id)
            if known is not None:
                known.offer = offer

    def forget_pilots(self, pilot_ids: Iterable[str]) -> None:
        """Drops pilots that have ended. Any thread may call it."""
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
            # A task never changes, except that a build job sets its library and a retry sets it again.
            self._tasks |= {i: task for i, task in read.items() if not task.spec.build}
            found |= read
        return found


def _checked_before(time: datetime, known: Iterable[tuple[str, KnownPilot]]) -> list[str]:
    """The pilots at the front that were last checked at `time` or before."""
    return [pilot_id for pilot_id, _ in takewhile(lambda item: item[1].checked <= time, known)]
