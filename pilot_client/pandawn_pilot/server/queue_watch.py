"""The thread that watches the queue, so that changes reach even an idle pilot within seconds."""

from __future__ import annotations

import threading

import grpc

from pandawn.queueconfig.v1.queue_pb2 import WatchQueueRequest
from pandawn_client.connection import Connection
from pandawn_client.policy import Backoff
from pandawn_client.refusals import failure_of
from pandawn_pilot.logs import Log
from pandawn_pilot.server.queue_view import QueueView

# Pause before a stream that ended normally is reopened: the server stops, or sheds load.
_PAUSE_SECONDS = 1.0
# Codes of a server without this stream; heartbeats bring the same changes, later.
_HOPELESS = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED})


class QueueWatch:
    """Watches from `start` to `stop`, through outages of the server."""

    def __init__(self, view: QueueView, connection: Connection, log: Log) -> None:
        self._view = view
        self._connection = connection
        self._log = log
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
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
                    self._log.info(
                        "cannot watch the queue, changes arrive with heartbeats only: %s", failure
                    )
                    return
                pause = max(_PAUSE_SECONDS, backoff.next_pause(failure.retry_after))
            except Exception:  # noqa: BLE001 (a worker loop)
                # No reason to end the pilot: heartbeats bring changes, too.
                self._log.exception("watching the queue failed with an internal error")
            self._ended.wait(pause)

    def _follow(self) -> None:
        request = WatchQueueRequest(name=self._view.name, after_revision=self._view.latest.revision)
        with self._lock:
            if self._ended.is_set():
                return
            # No deadline: keepalive detects a server that is gone.
            stream = self._connection.queues.WatchQueue(request)
            self._call = stream
        for response in stream:
            self._view.take(response.queue)
