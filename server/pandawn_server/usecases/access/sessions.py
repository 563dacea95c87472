"""Starts, renews and ends sessions; makes and rotates their keys."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import Principal, Session
from pandawn_server.domain.access.sessions import SECRET_BYTES, SessionKey, expired_keys
from pandawn_server.domain.access.vouching import write_credential
from pandawn_server.domain.errors import (
    ForbiddenError,
    NotFoundError,
    PandawnError,
    UnauthenticatedError,
    UnavailableError,
)
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.logs import Log
from pandawn_server.storage.access import session_keys, vouchers
from pandawn_server.storage.database import Database
from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.access.admission import check_still_brings, queue_to_serve
from pandawn_server.usecases.context import Context

REFRESH_INTERVAL = timedelta(seconds=20)
"""Time until a process learns of keys that another process made, and of pilots that it ended."""

KEY_LEAD = REFRESH_INTERVAL * 3
"""How long a new key waits before it signs: by then every process knows it."""


_log: Log = structlog.get_logger(__name__)


def begin_session(context: Context, session: Session) -> tuple[str, datetime]:
    """Returns the token of a new session, and when it expires."""
    if not context.sessions.has_keys:
        refresh_sessions(context)
    now = context.clock()
    return context.sessions.issue(replace(session, begin_time=now), now)


def refresh_sessions(context: Context) -> None:
    """Reads the keys, and makes the first one; ends the sessions of pilots that other processes ended."""
    now = context.clock()
    sessions = context.sessions
    watched = sessions.watched(now)
    # Read first, so that a change of the rules during this run is noticed by the next.
    changes = sessions.judge.changes()
    with context.db.read() as tx:
        keys = session_keys.all_keys(tx)
        ended = pilots.ended_among(tx, watched) if watched else set()
        shown = vouchers.credentials(tx, watched) if changes != sessions.judged_at else {}
    sessions.end(ended, now)
    _judge_again(context, shown, now)
    sessions.judged_at = changes
    sessions.take_keys(keys or _first_key(context, now))


def renew_session(context: Context, by: Principal) -> str:
    """A new token for a pilot; empty if its session is not renewed.

    Checks again the credential that started the session, with the rules and the queue of now. If these reject it,
    the session ends. If it has expired, or the session has reached its longest life, the session runs out, and the
    pilot registers again with a valid credential and the same `request_id`.
    """
    session, now = by.session, context.clock()
    if session is None or not session.pilot_id:
        return ""
    with context.db.read() as tx:
        shown = vouchers.credentials(tx, [session.pilot_id]).get(session.pilot_id)
        pilot = pilots.get_pilots(tx, [session.pilot_id]).get(session.pilot_id)
    begin = session.begin_time
    # Sessions of older versions have no credential or start time stored; the pilot registers again, and then has.
    if shown is None or begin is None or pilot is None or pilot.state is not PilotState.LIVE:
        return ""
    judge = context.sessions.judge
    try:
        queue = queue_to_serve(context, session.queue)
        check_still_brings(judge.judge(shown, now), queue, session.key.node)
    except (UnauthenticatedError, ForbiddenError, NotFoundError) as error:
        _bar(context, session.pilot_id, error, now)
        return ""
    if now - begin >= context.sessions.longest or now >= shown.expire_time + judge.outlives(shown):
        return ""
    return context.sessions.issue(session, now)[0]


def _judge_again(context: Context, shown: Mapping[str, Shown], now: datetime) -> None:
    """Ends the sessions whose credentials the rules no longer accept."""
    # Thousands of pilots may share one credential.
    verdicts: dict[str, PandawnError | None] = {}
    for pilot_id, credential in shown.items():
        key = write_credential(credential)
        if key not in verdicts:
            try:
                context.sessions.judge.judge(credential, now)
                verdicts[key] = None
            except (UnauthenticatedError, ForbiddenError) as error:
                verdicts[key] = error
        verdict = verdicts[key]
        if verdict is not None:
            _bar(context, pilot_id, verdict, now)


def _bar(context: Context, pilot_id: str, why: PandawnError, now: datetime) -> None:
    context.sessions.bar(pilot_id, now)
    _log.warning("session ended", pilot_id=pilot_id, reason=why.reason, message=why.message)


def _first_key(context: Context, now: datetime) -> list[SessionKey]:
    try:
        with context.db.write() as tx:
            if not session_keys.all_keys(tx):
                session_keys.insert_key(tx, SessionKey(1, _secret(context.rng), now))
    except UnavailableError as error:
        if error.reason != "DATABASE_CONFLICT":
            raise
    with context.db.read() as tx:
        return session_keys.all_keys(tx)


def rotate_key(
    db: Database, rng: random.Random, now: datetime, *, end_sessions: bool
) -> SessionKey:
    """Makes a new key, which signs after `KEY_LEAD`; tokens signed with old keys stay valid.

    With `end_sessions` all old keys are deleted, which ends all sessions, and the new key signs at once.
    """
    with db.write() as tx:
        known = session_keys.all_keys(tx)
        number = max((key.key_id for key in known), default=0) + 1
        use_time = now if end_sessions or not known else now + KEY_LEAD
        key = SessionKey(number, _secret(rng), use_time)
        session_keys.insert_key(tx, key)
        old_keys = known if end_sessions else expired_keys([*known, key], now)
        session_keys.delete_keys(tx, [old.key_id for old in old_keys])
    return key


def _secret(rng: random.Random) -> bytes:
    return rng.randbytes(SECRET_BYTES)
