"""The caller of the current call and its address: set by the interceptor, read by the servicers."""

from __future__ import annotations

from contextvars import ContextVar

from pandawn_server.domain.access.principals import Principal

_CALLER: ContextVar[Principal] = ContextVar("pandawn_caller")
_PEER: ContextVar[str] = ContextVar("pandawn_peer")


def enter_caller(principal: Principal) -> None:
    """Sets the caller of this task's call."""
    _CALLER.set(principal)


def known_caller() -> Principal | None:
    """The caller of the current call, or None if not yet identified."""
    return _CALLER.get(None)


def caller() -> Principal:
    """The caller of the current call. Raises `LookupError` outside of one."""
    return _CALLER.get()


def enter_peer(peer: str) -> None:
    """Sets the peer of this task's call, behind fronts and proxies; only for calls that change something."""
    _PEER.set(peer)


def peer() -> str:
    """The peer of the current call, as gRPC would write it. Raises `LookupError` if none was set."""
    return _PEER.get()
