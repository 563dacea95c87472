"""What a session may touch: its own pilot, leases of its node and queue, its node's cache."""

from __future__ import annotations

from collections.abc import Sequence

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import Method, Principal, Role, Session
from pandawn_server.domain.access.vouching import credential_of, same_holder
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.queues.queues import Queue


def check_may_bring(by: Principal, queue: Queue) -> None:
    """Raises `ForbiddenError` unless the caller may bring pilots of a queue.

    PILOT_METHOD_REFUSED: the queue does not take this way to show who one is, from operators neither;
    NOT_YOUR_SITE.
    """
    taken = queue.pilot_methods
    if by.method.value not in taken:
        raise ForbiddenError(
            "PILOT_METHOD_REFUSED",
            f"queue {queue.name} takes pilots by {', '.join(taken) or 'nothing'}, not by "
            f"{by.method.value}; its parameter pilot_methods says so",
            metadata={"queue": queue.name, "method": by.method.value},
        )
    if by.sites and not by.is_operator and queue.site not in by.sites:
        raise ForbiddenError(
            "NOT_YOUR_SITE",
            f"{by.subject or by.name} may bring pilots of {', '.join(sorted(by.sites))} by the rule "
            f"{by.rule!r}; queue {queue.name} is of {queue.site}",
            metadata={"site": queue.site, "queue": queue.name},
        )


def check_node_name(by: Principal, node: str) -> None:
    """Raises `ForbiddenError` (NODE_NAME_REFUSED) where the caller's credential names other nodes."""
    if by.nodes is not None and node not in by.nodes:
        raise ForbiddenError(
            "NODE_NAME_REFUSED",
            f"the caller says it is node {node}, and by the rule {by.rule!r} its credential is for "
            f"{', '.join(sorted(by.nodes - {''})) or 'no node'}",
            metadata={"node": node},
        )


def check_holds_name(
    by: Principal, node_digest: str, key: NodeKey, holders: Sequence[tuple[Shown, str]]
) -> None:
    """Raises `ForbiddenError` (NODE_HELD) where a node's name is another's: of who first gave it, while alive.

    `holders` are what live pilots of the node showed when they came, and a digest of what only processes of their
    machine know (as `node_digest` is; empty where they did not say). Whoever's credential names the node needs no
    more. Else the same machine is asked for, and where they did not say, the same credential: one token may be
    that of all nodes of a site.
    """
    if by.nodes is not None or by.method is Method.HOST or by.method is Method.LOCAL:
        return
    mine = credential_of(by)
    for shown, machine in holders:
        if not (node_digest == machine if machine else same_holder(mine, shown)):
            raise ForbiddenError(
                "NODE_HELD",
                f"node {key.node} at {key.site} has pilots of another machine or credential; its name is free when "
                "they have ended, or for a caller whose credential names it",
                metadata={"site": key.site, "node": key.node},
            )


def acting_session(by: Principal) -> Session | None:
    """The session by which leases are judged; None for an operator, who may touch all of them.

    Raises `ForbiddenError` (NOT_YOUR_PILOT) for anybody else without a session.
    """
    if by.session is None and not by.is_operator:
        raise not_your_pilot("")
    return by.session


def check_own_pilot(by: Principal, pilot_id: str) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_PILOT) unless the caller is that pilot, or an operator."""
    if by.session is None:
        if not by.is_operator:
            raise not_your_pilot(pilot_id)
    elif by.session.pilot_id != pilot_id:
        raise not_your_pilot(pilot_id)


def check_pilot_of_node(by: Principal, pilot_id: str, pilot: Pilot | None) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_PILOT) unless the caller is that pilot or comes after it.

    A pilot that begins again on a node speaks for the one that crashed there: it found its reports.
    """
    session = by.session
    if session is None or session.pilot_id == pilot_id:
        check_own_pilot(by, pilot_id)
    elif pilot is None or not _comes_after(session, pilot):
        raise not_your_pilot(pilot_id)


def may_speak_for(session: Session | None, pilot_id: str, holder: Pilot | None) -> bool:
    """Whether a session may renew or end what a pilot holds, or ask again what became of it.

    Without a session an operator asks, and may. `holder` is that pilot, needed where it is not the
    session's own.
    """
    if session is None or pilot_id == session.pilot_id:
        return True
    return holder is not None and _comes_after(session, holder)


def check_cache(by: Principal, key: NodeKey) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_NODE) unless the caller may say what a node's cache holds."""
    session = by.session
    if (session is not None and session.key == key) or by.administers(key.site):
        return
    mine = (
        f"the session is of {_shown(session.key)}" if session else f"{by.subject or by.name} is not"
    )
    raise ForbiddenError(
        "NOT_YOUR_NODE",
        f"what {_shown(key)} holds is told by its own sessions and by administrators of the site; {mine}",
        metadata={"site": key.site, "node": key.node},
    )


def check_may_list(by: Principal, key: NodeKey) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_NODE) unless the caller may see the names of all files of a node."""
    if Role.MONITOR not in by.roles:
        check_cache(by, key)


def not_your_pilot(pilot_id: str) -> ForbiddenError:
    """The error for calls in the name of another pilot."""
    return ForbiddenError(
        "NOT_YOUR_PILOT",
        f"the session is not that of pilot {pilot_id!r}; a pilot shows the token that it got itself",
        metadata={"pilot_id": pilot_id},
    )


def not_your_lease(job_id: int, attempt: int) -> ForbiddenError:
    """The error for a lease of a pilot of another node or queue."""
    return ForbiddenError(
        "NOT_YOUR_LEASE",
        f"attempt {attempt} of job {job_id} belongs to a pilot of another node or queue",
        metadata={"job_id": str(job_id), "attempt": str(attempt)},
    )


def _comes_after(session: Session, pilot: Pilot) -> bool:
    # A tool of the node has no pilot: it speaks for the cache and for no job.
    is_pilot = bool(session.pilot_id)
    return is_pilot and pilot.key == session.key and pilot.queue == session.queue


def _shown(key: NodeKey) -> str:
    return f"{key.node} at {key.site}"
