"""The queue as the pilot knows it: its latest revisions in memory, and a copy on disk.

The copy serves a pilot that starts while the server is unreachable, and administrators. A job keeps the
revision under which it was leased, however the queue changes meanwhile.
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
# Jobs that were leased under older ones use the oldest of these.
MAX_REVISIONS = 16
# To fetch a revision that a response has named; the stream brings it, too.
_CATCH_UP_SECONDS = 5.0


class QueueView:
    """One queue; thread-safe. `on_change` is called for each new revision, in the thread that took it."""

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
        """The latest known revision. Do not modify it."""
        return self._latest

    def load(self) -> None:
        """Loads the copy of an earlier run, if it is of this queue."""
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["version"] != FORMAT_VERSION:
                return
            queue = json_format.ParseDict(document["queue"], Queue(), ignore_unknown_fields=True)
        except (OSError, ValueError, KeyError, TypeError, json_format.ParseError):
            return
        if queue.name == self.name:
            self._latest = queue

    def take(self, queue: Queue, *, is_registration: bool = False) -> None:
        """Takes the queue from the server; ignores a revision that is not newer.

        Except at a registration: the server may have got another database.
        """
        with self._lock:
            if is_registration and queue.revision < self._latest.revision:
                self._known.clear()
            is_first = not self._known
            if not is_first and queue.revision <= self._latest.revision:
                return
            self._latest = self._known[queue.revision] = queue
            while len(self._known) > MAX_REVISIONS:
                self._known.popitem(last=False)
        # Heartbeats also call this, and must not wait for a disk.
        self._chores.later(lambda: self._keep(queue))
        self._log.info(
            "queue %s is at revision %d%s",
            queue.name,
            queue.revision,
            "" if is_first else " now",
        )
        self.on_change(queue)

    def at(self, revision: int) -> Queue:
        """The queue at a revision; the nearest known one if that is unknown."""
        self.catch_up(revision)
        with self._lock:
            exact = self._known.get(revision)
            if exact is not None or not self._known:
                return exact or self._latest
            later = [known for known in self._known if known > revision]
            return self._known[min(later)] if later else self._latest

    def catch_up(self, revision: int) -> None:
        """Fetches the queue if `revision` is newer than the latest known. One try: others follow."""
        if revision <= self._latest.revision:
            return
        try:
            response = call(
                self._connection.queues.GetQueue,
                GetQueueRequest(name=self.name),
                _CATCH_UP_SECONDS,
            )
        except CallError as failure:
            self._log.warning("cannot fetch revision %d of the queue yet: %s", revision, failure)
            return
        self.take(response.queue)

    def catch_up_later(self, revision: int) -> None:
        """As `catch_up`, in the background."""
        if revision > self._latest.revision:
            self._chores.later(lambda: self.catch_up(revision))

    def _keep(self, queue: Queue) -> None:
        content = json_format.MessageToDict(queue, preserving_proto_field_name=True)
        document = {"version": FORMAT_VERSION, "queue": content}
        try:
            replace_text(self._path, json.dumps(document, indent=1) + "\n")
        except OSError as error:
            # For example on a full disk. This run has it in memory.
            self._log.warning("cannot write the copy of the queue: %s", error)
