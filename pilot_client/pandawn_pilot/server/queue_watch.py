"""The thread that follows the queue: changes reach a pilot within seconds, also one that waits for a job."""

from __future__ import annotations

import threading

import grpc

from pandawn.queueconfig.v1.queue_pb2 import WatchQueueRequest
from pandawn_client.connection import Connection
from pandawn_client.policy import Backoff
from pandawn_client.refusals import failure_of
from pandawn_pilot.logs import Log
from pandawn_pilot.server.queue_view import QueueView

# A stream that ended well is begun again after this: the server stops, or sheds load.
_PAUSE_SECONDS = 1.0
# Of a server that has no such stream, replies to heartbeats tell the same, later.
_HOPELESS = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED})


class QueueWatch:
    """Follows from `start` to `stop`, through outages of the server."""

    def __init__(self, view: QueueView, connection: Connection, log: Log) -> None:
        self._view = view
        self._connection = connection
        self._log = log
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the stream and the thread."""
        self._ended.set()
        with self._lock:
            if self._call is not None:
                self._call.cancel()
        self._thread.join()

    def _run(self) -> None:
        backoff = Backoff()
        while not self._ended.is_set():
            pause = _PAUSE_SECONDS
            try:
                self._follow()
                backoff = Backoff()
            except grpc.RpcError as error:
                failure = failure_of(error)
                if self._ended.is_set():
                    return
                if failure.code in _HOPELESS:
                    self._log.info("changes of the queue come with heartbeats only: %s", failure)
                    return
                pause = max(_PAUSE_SECONDS, backoff.next_pause(failure.retry_after))
            except Exception:  # noqa: BLE001 (a worker loop)
                # Heartbeats tell of changes, too: no reason to end the pilot.
                self._log.exception("following the queue met an error of the pilot's own")
            self._ended.wait(pause)

    def _follow(self) -> None:
        request = WatchQueueRequest(name=self._view.name, after_revision=self._view.latest.revision)
        with self._lock:
            if self._ended.is_set():
                return
            # Without a deadline: keepalive finds out about a server that is gone.
            stream = self._connection.queues.WatchQueue(request)
            self._call = stream
        for response in stream:
            self._view.take(response.queue)
