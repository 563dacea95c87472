"""Asks the name service for the name of an address, and whether that name leads back to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Protocol

from pandawn_server.domain.access.host_admission import HostFacts, clean_names
from pandawn_server.wire.auth.peers import parse_address

RESOLVE_TIMEOUT = timedelta(seconds=8)
"""Time limit for all questions about one address; by default the system asks each name server twice in 10 s."""

MAX_WAITING = 256
"""Maximum addresses being resolved; with more, the name service is slow or down."""

_THREADS = 16
"""Threads that wait for the name service, separate from those of the use cases, because it may hang."""


class Resolver(Protocol):
    """Resolves the names of addresses."""

    async def facts(self, address: str) -> HostFacts:
        """The names of an address; never raises, `HostFacts.problem` says what went wrong."""
        ...

    def close(self) -> None:
        """Asks no more questions."""
        ...


class NameService(Protocol):
    """The two questions; both block, and raise `OSError` if there is no answer for now."""

    def names(self, address: str) -> Sequence[str]:
        """The names of an address by reverse lookup; empty if it has none."""
        ...

    def addresses(self, name: str) -> Sequence[str]:
        """The addresses of a name; empty if it has none."""
        ...


class SystemNames:
    """The name service as the system is configured: `/etc/hosts`, DNS, whatever nsswitch.conf lists."""

    def names(self, address: str) -> Sequence[str]:
        """See `NameService`."""
        try:
            name, aliases, _ = socket.gethostbyaddr(address)
        except socket.herror as error:
            # 1: no such host, 4: no name. Any other error is a failure of the name service.
            if error.errno in {1, 4}:
                return []
            raise
        return [name, *aliases]

    def addresses(self, name: str) -> Sequence[str]:
        """See `NameService`."""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}:
                return []
            raise
        return [str(address[0]) for *_, address in found]


class ThreadedResolver:
    """Asks in threads of its own, with a time limit."""

    def __init__(self, names: NameService, timeout: timedelta = RESOLVE_TIMEOUT) -> None:
        self._names = names
        self._timeout = timeout
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolver")
        self._waiting = 0

    async def facts(self, address: str) -> HostFacts:
        """See `Resolver`."""
        if self._waiting >= MAX_WAITING:
            return HostFacts(address, problem="too many addresses are being resolved")
        self._waiting += 1
        call = asyncio.get_running_loop().run_in_executor(
            self._executor, look_up, self._names, address
        )
        call.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(
                asyncio.shield(call), self._timeout / timedelta(seconds=1)
            )
        except TimeoutError:
            return HostFacts(address, problem="the name service does not answer")

    def close(self) -> None:
        """Asks no more questions, and does not wait for answers."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _done(self, call: asyncio.Future[HostFacts]) -> None:
        self._waiting -= 1
        if not call.cancelled():
            # Marks the exception as retrieved: the waiting call may be gone, and asyncio would log a bug.
            call.exception()


def look_up(names: NameService, address: str) -> HostFacts:
    """Looks up an address in both directions."""
    found_names, problem = _asked(names.names, address)
    confirmed: list[str] = []
    cleaned = clean_names(found_names)
    for name in cleaned:
        found, trouble = _asked(names.addresses, name)
        problem = problem or trouble
        if any(str(parse_address(one)) == address for one in found):
            confirmed.append(name)
    return HostFacts(address, cleaned, tuple(confirmed), problem)


def _asked(ask: Callable[[str], Sequence[str]], what: str) -> tuple[Sequence[str], str]:
    try:
        return ask(what), ""
    except (OSError, UnicodeError) as error:
        return [], f"the name service does not answer for {what}: {error}"
