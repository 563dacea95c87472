"""The queue as the pilot knows it: its latest revision, the last few before, and a copy on disk.

The copy is what a pilot goes by that begins while the server is away, and what people look at. A job
is done by the revision under which it was given out, whatever becomes of the queue meanwhile.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format

from pandawn.queueconfig.v1.queue_pb2 import GetQueueRequest, Queue
from pandawn_client.calls import call
from pandawn_client.connection import Connection
from pandawn_client.refusals import CallError
from pandawn_pilot.chores import Chores
from pandawn_pilot.logs import Log
from pandawn_pilot.node.durable import replace_text

FORMAT_VERSION = 2
# Jobs that were given out under older ones are done by the oldest that is known.
MAX_REVISIONS = 16
# For a revision that a reply has told of; the stream brings it, too.
_CATCH_UP_SECONDS = 5.0


class QueueView:
    """One queue, for all threads. `on_change` is called, by whoever brought it, for each new revision."""

    def __init__(
        self, name: str, path: Path, connection: Connection, log: Log, chores: Chores
    ) -> None:
        self.name = name
        self._chores = chores
        self.on_change: Callable[[Queue], None] = lambda _: None
        self._path = path
        self._connection = connection
        self._log = log
        self._lock = threading.Lock()
        self._latest = Queue(name=name)
        self._known: OrderedDict[int, Queue] = OrderedDict()

    @property
    def latest(self) -> Queue:
        """The queue as it is now, as far as is known. Not to be changed."""
        return self._latest

    def load(self) -> None:
        """Takes what an earlier life of the pilot has kept, if it is of this queue."""
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["version"] != FORMAT_VERSION:
                return
            queue = json_format.ParseDict(document["queue"], Queue(), ignore_unknown_fields=True)
        except (OSError, ValueError, KeyError, TypeError, json_format.ParseError):
            return
        if queue.name == self.name:
            self._latest = queue

    def take(self, queue: Queue, *, anew: bool = False) -> None:
        """Takes the queue as the server gave it; an older revision than that at hand changes nothing.

        But for a registration, which counts `anew`: the server may have been given another database.
        """
        with self._lock:
            if anew and queue.revision < self._latest.revision:
                self._known.clear()
            is_first = not self._known
            if not is_first and queue.revision <= self._latest.revision:
                return
            self._latest = self._known[queue.revision] = queue
            while len(self._known) > MAX_REVISIONS:
                self._known.popitem(last=False)
        # Heartbeats bring the queue, too, and wait for no disk.
        self._chores.later(lambda: self._keep(queue))
        self._log.info(
            "the queue %s is at revision %d%s",
            queue.name,
            queue.revision,
            "" if is_first else " now",
        )
        self.on_change(queue)

    def at(self, revision: int) -> Queue:
        """The queue as it was at a revision; the nearest that is known, if that one is not."""
        self.catch_up(revision)
        with self._lock:
            exact = self._known.get(revision)
            if exact is not None or not self._known:
                return exact or self._latest
            later = [known for known in self._known if known > revision]
            return self._known[min(later)] if later else self._latest

    def catch_up(self, revision: int) -> None:
        """Asks for the queue if the server has told of a later revision. One try: there are others."""
        if revision <= self._latest.revision:
            return
        try:
            response = call(
                self._connection.queues.GetQueue,
                GetQueueRequest(name=self.name),
                _CATCH_UP_SECONDS,
            )
        except CallError as failure:
            self._log.warning("revision %d of the queue cannot be had yet: %s", revision, failure)
            return
        self.take(response.queue)

    def catch_up_later(self, revision: int) -> None:
        """As `catch_up`, for who cannot wait."""
        if revision > self._latest.revision:
            self._chores.later(lambda: self.catch_up(revision))

    def _keep(self, queue: Queue) -> None:
        content = json_format.MessageToDict(queue, preserving_proto_field_name=True)
        document = {"version": FORMAT_VERSION, "queue": content}
        try:
            replace_text(self._path, json.dumps(document, indent=1) + "\n")
        except OSError as error:
            # A full disk, say. In memory it is good for this life.
            self._log.warning("the queue cannot be kept on disk: %s", error)
