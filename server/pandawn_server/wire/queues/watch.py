"""Notifies the watchers of a queue when it changes. Each queue is compared once, for any number of watchers."""

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
    """The watchers of queues. Use it only from the event loop.

    It reads only the cached configuration: a watcher costs no query.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watched: dict[str, _Watched] = {}
        self._seen = context.config.remembered
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def queue(self, name: str) -> Queue | None:
        """Returns the current state of a queue from the cache."""
        return self._context.config.remembered.queue(name, self._context.clock())

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    @contextmanager
    def watching(self, name: str) -> Iterator[asyncio.Event]:
        """Yields an event that is set when the queue may have changed, or the server stops; clear it and compare."""
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
        """Compares the queues if the configuration has changed. May be called from any thread."""
        if self._loop is not None and self._context.config.remembered is not self._seen:
            self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Wakes the watchers of queues that have changed."""
        self._seen = self._context.config.remembered
        for name, watched in self._watched.items():
            queue = self.queue(name)
            # It is the same object unless a value may have changed.
            if queue is not watched.queue:
                watched.queue = queue
                for event in watched.watchers:
                    event.set()

    def close(self) -> None:
        """Ends all watches, when the server stops."""
        self._closed = True
        for watched in self._watched.values():
            for event in watched.watchers:
                event.set()
