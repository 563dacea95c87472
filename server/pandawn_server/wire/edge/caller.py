"""Who makes the call that runs, and from where: set by the interceptor, asked for by the servicers."""

from __future__ import annotations

from contextvars import ContextVar

from pandawn_server.domain.access.principals import Principal

_CALLER: ContextVar[Principal] = ContextVar("pandawn_caller")
_PEER: ContextVar[str] = ContextVar("pandawn_peer")


def enter_caller(principal: Principal) -> None:
    """Says who makes the call of this task, for as long as it runs."""
    _CALLER.set(principal)


def known_caller() -> Principal | None:
    """Who makes the call that runs, if that is known already."""
    return _CALLER.get(None)


def caller() -> Principal:
    """Who makes the call that runs. Raises `LookupError` outside of one."""
    return _CALLER.get()


def enter_peer(peer: str) -> None:
    """Says from where the call of this task comes, beyond fronts and proxies; of calls that change something."""
    _PEER.set(peer)


def peer() -> str:
    """From where the call comes that runs, as gRPC would write it. Raises `LookupError` where nobody said."""
    return _PEER.get()
