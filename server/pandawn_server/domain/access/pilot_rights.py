"""What a session gives access to: its own pilot, the leases of its node and queue, and its node's cache."""

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
    """Raises `ForbiddenError` unless the caller may register pilots of a queue.

    PILOT_METHOD_REFUSED: the queue does not accept this method of authentication, not even from operators;
    NOT_YOUR_SITE.
    """
    accepted = queue.pilot_methods
    if by.method.value not in accepted:
        raise ForbiddenError(
            "PILOT_METHOD_REFUSED",
            f"queue {queue.name} accepts pilots by {', '.join(accepted) or 'no method'}, not by "
            f"{by.method.value}; this is set by its parameter pilot_methods",
            metadata={"queue": queue.name, "method": by.method.value},
        )
    if by.sites and not by.is_operator and queue.site not in by.sites:
        raise ForbiddenError(
            "NOT_YOUR_SITE",
            f"the rule {by.rule!r} lets {by.subject or by.name} register pilots at "
            f"{', '.join(sorted(by.sites))} only; queue {queue.name} belongs to {queue.site}",
            metadata={"site": queue.site, "queue": queue.name},
        )


def check_node_name(by: Principal, node: str) -> None:
    """Raises `ForbiddenError` (NODE_NAME_REFUSED) if the caller's credential is for other nodes."""
    if by.nodes is not None and node not in by.nodes:
        raise ForbiddenError(
            "NODE_NAME_REFUSED",
            f"the caller claims to be node {node}, but by the rule {by.rule!r} its credential is valid for "
            f"{', '.join(sorted(by.nodes - {''})) or 'no node'} only",
            metadata={"node": node},
        )


def check_holds_name(
    by: Principal, node_digest: str, key: NodeKey, holders: Sequence[tuple[Shown, str]]
) -> None:
    """Raises `ForbiddenError` (NODE_HELD) if the node's name belongs to live pilots of another machine or credential.

    `holders` are the credentials of the node's live pilots at their registration, each with the digest of the node
    key, which only processes of that machine know (like `node_digest`; empty if not given). A caller whose credential
    names the node is always accepted. Others need the same node key, or without one the same credential: all nodes
    of a site may share one token.
    """
    if by.nodes is not None or by.method is Method.HOST or by.method is Method.LOCAL:
        return
    mine = credential_of(by)
    for shown, machine in holders:
        if not (node_digest == machine if machine else same_holder(mine, shown)):
            raise ForbiddenError(
                "NODE_HELD",
                f"node {key.node} at {key.site} has live pilots of another machine or credential; wait until they "
                "have ended, or use a credential that names the node",
                metadata={"site": key.site, "node": key.node},
            )


def acting_session(by: Principal) -> Session | None:
    """The session that decides which leases the caller may change; None for an operator, who may change all.

    Raises `ForbiddenError` (NOT_YOUR_PILOT) for any other caller without a session.
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
    """Raises `ForbiddenError` (NOT_YOUR_PILOT) unless the caller is that pilot or its successor.

    A pilot that restarts on a node acts for the one that crashed there: it finds the unsent reports.
    """
    session = by.session
    if session is None or session.pilot_id == pilot_id:
        check_own_pilot(by, pilot_id)
    elif pilot is None or not _succeeds(session, pilot):
        raise not_your_pilot(pilot_id)


def may_speak_for(session: Session | None, pilot_id: str, holder: Pilot | None) -> bool:
    """Whether a session may renew or end a pilot's leases, and repeat its reports.

    Without a session the caller is an operator, who may. `holder` is that pilot, needed only if it is not
    the session's own.
    """
    if session is None or pilot_id == session.pilot_id:
        return True
    return holder is not None and _succeeds(session, holder)


def check_cache(by: Principal, key: NodeKey) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_NODE) unless the caller may report the content of a node's cache."""
    session = by.session
    if (session is not None and session.key == key) or by.administers(key.site):
        return
    mine = (
        f"this session is of {_shown(session.key)}"
        if session
        else f"{by.subject or by.name} is neither"
    )
    raise ForbiddenError(
        "NOT_YOUR_NODE",
        f"only sessions of {_shown(key)} and administrators of the site report what its cache holds; {mine}",
        metadata={"site": key.site, "node": key.node},
    )


def check_may_list(by: Principal, key: NodeKey) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_NODE) unless the caller may list all files of a node."""
    if Role.MONITOR not in by.roles:
        check_cache(by, key)


def not_your_pilot(pilot_id: str) -> ForbiddenError:
    """The error for a call on behalf of another pilot."""
    return ForbiddenError(
        "NOT_YOUR_PILOT",
        f"the session does not belong to pilot {pilot_id!r}; use the token of its registration",
        metadata={"pilot_id": pilot_id},
    )


def not_your_lease(job_id: int, attempt: int) -> ForbiddenError:
    """The error for a lease of a pilot of another node or queue."""
    return ForbiddenError(
        "NOT_YOUR_LEASE",
        f"attempt {attempt} of job {job_id} belongs to a pilot of another node or queue",
        metadata={"job_id": str(job_id), "attempt": str(attempt)},
    )


def _succeeds(session: Session, pilot: Pilot) -> bool:
    # A session without a pilot is that of a tool of the node: it acts for the cache and for no job.
    is_pilot = bool(session.pilot_id)
    return is_pilot and pilot.key == session.key and pilot.queue == session.queue


def _shown(key: NodeKey) -> str:
    return f"{key.node} at {key.site}"
