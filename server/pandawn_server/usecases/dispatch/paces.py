"""Recent run times of payloads, in memory: they show when a node deserves a check."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from datetime import timedelta
from statistics import median

from pandawn_server.domain.leases.nodes import KNOWN_ELSEWHERE, much_longer

_TASKS = 2_000
_PAYLOADS = 32


class Paces:
    """The last payloads of recent tasks, with their nodes. Only a trigger: the database decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: OrderedDict[int, deque[tuple[str, float]]] = OrderedDict()

    def is_slow(self, task_id: int, node: str, payload: timedelta | None) -> bool:
        """Records a successful payload; returns whether it took far longer than on other nodes."""
        if payload is None:
            return False
        seconds = payload.total_seconds()
        with self._lock:
            known = self._tasks.setdefault(task_id, deque(maxlen=_PAYLOADS))
            self._tasks.move_to_end(task_id)
            if len(self._tasks) > _TASKS:
                self._tasks.popitem(last=False)
            others = [time for where, time in known if where != node]
            known.append((node, seconds))
        if len(others) < KNOWN_ELSEWHERE:
            return False
        return much_longer(seconds, median(others))
