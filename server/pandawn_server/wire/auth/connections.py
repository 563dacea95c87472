"""Limits connections of strangers: how many an address may have, and how long one may show no credential.

A thread checks the connections of this process and closes those that are too many or too old. It uses at most
one percent of the time, however many there are; a call costs one entry in a set.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from pandawn_server.logs import Log
from pandawn_server.wire.auth.own_sockets import OwnSockets, Peer
from pandawn_server.wire.auth.peers import Address, Network, address_of

LOOK_INTERVAL_S = 1.0
"""Minimum interval between checks, in seconds."""

_SHARE_OF_TIME = 0.01

LOG_INTERVAL_S = 60.0
"""Minimum interval between log lines, in seconds: a flood must not fill the disk."""

_LOGGED_ADDRESSES = 5

_log: Log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for one network address.

    It may have `of_strangers` connections at a time without a credential, and `of_address` in all. A connection
    without a credential is closed after `time_to_show`.
    """

    of_strangers: int = 100
    of_address: int = 4000
    time_to_show: timedelta = timedelta(seconds=30)


class Sockets(Protocol):
    """Access to the open connections."""

    def look(self) -> Mapping[int, Peer]:
        """The open connections, by a number that each keeps."""
        ...

    def cut(self, number: int) -> None:
        """Closes a connection."""
        ...


@dataclass(slots=True)
class _Connection:
    peer: Peer
    begin_s: float
    has_shown: bool = False


class Connections:
    """Checks the connections of a server. Any thread may call `shown`; one thread calls `look`."""

    def __init__(self, limits: ConnectionLimits, trusted: Sequence[Network] = ()) -> None:
        """`trusted` are the networks of declared proxies, which carry the connections of all clients."""
        self._limits = limits
        self._trusted = tuple(trusted)
        self._open: dict[int, _Connection] = {}
        self._shown: set[str] = set()
        self._cut: Counter[Address] = Counter()
        self._causes: Counter[str] = Counter()
        self._next_line_s = 0.0

    def shown(self, peer: str) -> None:
        """Records that a connection, named by gRPC's peer, showed a good credential."""
        self._shown.add(peer)

    def start(self, ports: Collection[int]) -> None:
        """Starts the checks, in a thread that ends with the process."""
        if not ports:
            return
        if not OwnSockets.can_be_seen():
            _log.warning("connections are not checked: this system has no /proc")
            return
        sockets = OwnSockets(ports)
        threading.Thread(
            target=self._keep_looking, args=(sockets,), name="connections", daemon=True
        ).start()

    def _keep_looking(self, sockets: Sockets) -> None:
        while True:
            begin_s, begin_cpu_s = time.monotonic(), time.thread_time()
            try:
                self.look(sockets, begin_s)
            except Exception:  # noqa: BLE001 (the loop must go on)
                _log.exception("cannot check the connections")
            spent_s = time.thread_time() - begin_cpu_s
            time.sleep(max(LOOK_INTERVAL_S, spent_s / _SHARE_OF_TIME))

    def look(self, sockets: Sockets, now_s: float) -> None:
        """Closes connections that are too many, or too old without a credential."""
        shown, self._shown = self._shown, set()
        there = sockets.look()
        known = self._open
        self._open = {
            number: known.get(number) or _Connection(peer, now_s) for number, peer in there.items()
        }
        marks = set(map(_mark, shown))
        by_address: defaultdict[Address, list[tuple[int, _Connection]]] = defaultdict(list)
        for number, connection in self._open.items():
            peer = connection.peer
            if not connection.has_shown and (str(peer.address), peer.port) in marks:
                connection.has_shown = True
            if not self._is_trusted(peer.address):
                by_address[peer.address].append((number, connection))
        for connections in by_address.values():
            for number, cause in self._condemned(connections, now_s):
                self._causes[cause] += 1
                self._cut[self._open[number].peer.address] += 1
                sockets.cut(number)
        self._log_closed(now_s)

    def _condemned(
        self, connections: Sequence[tuple[int, _Connection]], now_s: float
    ) -> Iterable[tuple[int, str]]:
        limits = self._limits
        strangers = [(number, c) for number, c in connections if not c.has_shown]
        patience_s = limits.time_to_show / timedelta(seconds=1)
        gone = {number: "silent" for number, c in strangers if now_s - c.begin_s > patience_s}
        left = [entry for entry in strangers if entry[0] not in gone]
        # Closes the newest: earlier connections do not suffer from a later flood.
        left.sort(key=lambda entry: (entry[1].begin_s, entry[0]))
        gone.update((number, "strangers") for number, _ in left[limits.of_strangers :])
        excess = len(connections) - len(gone) - limits.of_address
        if excess > 0:
            ordered = sorted(
                (entry for entry in connections if entry[0] not in gone),
                key=lambda entry: (not entry[1].has_shown, entry[1].begin_s, entry[0]),
            )
            gone.update((number, "address") for number, _ in ordered[-excess:])
        return gone.items()

    def _is_trusted(self, address: Address) -> bool:
        return any(address.version == n.version and address in n for n in self._trusted)

    def _log_closed(self, now_s: float) -> None:
        if not self._cut or now_s < self._next_line_s:
            return
        self._next_line_s = now_s + LOG_INTERVAL_S
        most = {str(address): n for address, n in self._cut.most_common(_LOGGED_ADDRESSES)}
        _log.warning(
            "connections closed",
            showed_nothing=self._causes["silent"],
            too_many_strangers=self._causes["strangers"],
            too_many_of_an_address=self._causes["address"],
            most=most,
            addresses=len(self._cut),
        )
        self._cut.clear()
        self._causes.clear()


def _mark(peer: str) -> tuple[str, int]:
    port = peer.rpartition(":")[2]
    return str(address_of(peer)), int(port) if port.isdecimal() else -1
