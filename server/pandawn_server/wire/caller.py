"""Who makes the call that runs: set by the interceptor, asked for by the servicers."""

from __future__ import annotations

from contextvars import ContextVar

from pandawn_server.domain.principals import Principal

_CALLER: ContextVar[Principal] = ContextVar("pandawn_caller")


def enter_caller(principal: Principal) -> None:
    """Says who makes the call of this task, for as long as it runs."""
    _CALLER.set(principal)


def known_caller() -> Principal | None:
    """Who makes the call that runs, if that is known already."""
    return _CALLER.get(None)


def caller() -> Principal:
    """Who makes the call that runs. Raises `LookupError` outside of one."""
    return _CALLER.get()
