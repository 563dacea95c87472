"""Tells those who watch a queue that it changed. However many they are, each queue is looked at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pandawn_server.domain.queues.queues import Queue
from pandawn_server.usecases.context import Context


@dataclass(slots=True)
class _Watched:
    queue: Queue | None
    watchers: set[asyncio.Event] = field(default_factory=set)


class ConfigWatch:
    """Those who watch queues. To be used from the event loop only.

    What is remembered of the configuration is all that it looks at: no statement for a watcher.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watched: dict[str, _Watched] = {}
        self._seen = context.config.remembered
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def queue(self, name: str) -> Queue | None:
        """A queue as it is now."""
        return self._context.config.remembered.queue(name, self._context.clock())

    @property
    def closed(self) -> bool:
        """Whether the server stops."""
        return self._closed

    @contextmanager
    def watching(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set when the queue may have changed, or the server stops; clear it and look."""
        self._loop = asyncio.get_running_loop()
        watched = self._watched.get(name)
        if watched is None:
            watched = self._watched[name] = _Watched(self.queue(name))
        event = asyncio.Event()
        watched.watchers.add(event)
        try:
            yield event
        finally:
            watched.watchers.discard(event)
            if not watched.watchers and self._watched.get(name) is watched:
                del self._watched[name]

    def wake(self) -> None:
        """Looks, if the configuration has changed. From any thread."""
        if self._loop is not None and self._context.config.remembered is not self._seen:
            self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Wakes those whose queues are not what they were."""
        self._seen = self._context.config.remembered
        for name, watched in self._watched.items():
            queue = self.queue(name)
            # The same object unless something of it may have changed.
            if queue is not watched.queue:
                watched.queue = queue
                for event in watched.watchers:
                    event.set()

    def close(self) -> None:
        """Ends all watching: the server stops."""
        self._closed = True
        for watched in self._watched.values():
            for event in watched.watchers:
                event.set()
