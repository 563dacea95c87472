"""Overrides: parameters of a queue that are set for a limited time, and then expire."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from pandawn_server.domain.errors import InvalidRequestError, Violation
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.config_rules import setting_violations
from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind, Level, Override
from pandawn_server.domain.queues.queues import Queue, QueueSettings, queue_not_found
from pandawn_server.domain.queues.revisions import Author, Cause, Change
from pandawn_server.storage import requests
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.monitor import events
from pandawn_server.storage.queues import documents, revisions
from pandawn_server.storage.requests import Answer, RequestKey
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.queues.configure import NOBODY, get_queue
from pandawn_server.usecases.queues.rights import require_author_at

LONGEST_OVERRIDE = timedelta(days=366)
"""Maximum duration of an override; a longer one belongs in the document of the queue."""


def set_override(
    context: Context,
    request_id: str,
    fingerprint: str,
    name: str,
    settings: QueueSettings,
    end: timedelta | datetime,
    author: Author,
) -> tuple[Queue, int]:
    """Sets parameters of a queue for a time or until one; returns the queue, and the revision that it made.

    A repeat with the same `request_id` changes nothing, and returns the current queue and the first call's
    revision. `fingerprint` is a digest of the request: it detects that a request_id was used for another override.
    Raises `InvalidRequestError`, `NotFoundError` (QUEUE_NOT_FOUND), `ConflictError` (REQUEST_ID_REUSED) and
    `ForbiddenError` (SITE_ADMIN_REQUIRED).
    """
    now = context.clock()
    key = RequestKey(author.name, request_id, fingerprint)
    with context.db.write() as tx:
        # From here on no other transaction can answer the same request.
        revision = revisions.lock_head(tx) + 1
        answer = requests.get_answer(tx, key)
        if answer is not None:
            return get_queue(context, name), answer.numbers[0]
        # Checked only now: a repeat may arrive after the end has passed.
        expire_time = now + end if isinstance(end, timedelta) else end
        _check(settings, expire_time, now)
        config = context.config.refresh(tx)
        queue = config.queue(name, now)
        if queue is None:
            raise queue_not_found(name)
        require_author_at(author, [queue.site], f"queue {name!r}")
        before = [o for o in config.overrides.get(name, ()) if o.expire_time > now]
        new = [Override(name, p, value, expire_time, revision) for p, value in settings.items()]
        documents.delete_overrides(tx, [name], list(settings))
        documents.write_overrides(tx, new)
        kept = [o for o in before if o.parameter not in settings]
        until = f"until {expire_time:%Y-%m-%d %H:%M:%S} UTC"
        text = f"queue {name} has overrides {until}: {', '.join(settings)}"
        change = _change(name, before, [*kept, *new])
        _write(tx, revision, now, Cause.OVERRIDE, author, {text: change})
        requests.insert_answer(tx, key, Answer(0, (revision,)), now)
    return get_queue(context, name), revision


def clear_override(
    context: Context, name: str, parameters: Collection[str], author: Author
) -> tuple[Queue, int, int]:
    """Clears overrides of a queue, all if `parameters` is empty; returns the queue, the revision, and their number.

    Raises `NotFoundError` (QUEUE_NOT_FOUND) and `ForbiddenError` (SITE_ADMIN_REQUIRED).
    """
    with context.db.write() as tx:
        now = context.clock()
        head = revisions.lock_head(tx)
        config = context.config.refresh(tx)
        queue = config.queue(name, now)
        if queue is None:
            raise queue_not_found(name)
        require_author_at(author, [queue.site], f"queue {name!r}")
        before = [o for o in config.overrides.get(name, ()) if o.expire_time > now]
        ended = [o for o in before if not parameters or o.parameter in parameters]
        if not ended:
            return get_queue(context, name), head, 0
        documents.delete_overrides(tx, [name], [o.parameter for o in ended])
        text = f"overrides of queue {name} were cleared: {_names(ended)}"
        change = _change(name, before, [o for o in before if o not in ended])
        _write(tx, head + 1, now, Cause.CLEAR, author, {text: change})
    return get_queue(context, name), head + 1, len(ended)


def record_expired(context: Context) -> None:
    """Records expired overrides as a revision; makes no query while there are none."""
    now = context.clock()
    if not context.config.remembered.expired(now):
        return
    with context.db.write() as tx:
        head = revisions.lock_head(tx)
        config = context.config.refresh(tx)
        changes: dict[str, Change] = {}
        for name, mine in sorted(config.overrides.items()):
            ended = [o for o in mine if o.expire_time <= now]
            if ended:
                text = f"overrides of queue {name} expired: {_names(ended)}"
                changes[text] = _change(name, mine, [o for o in mine if o not in ended])
        if changes:
            documents.delete_expired(tx, now)
            _write(tx, head + 1, now, Cause.EXPIRE, NOBODY, changes)


def _check(settings: QueueSettings, expire_time: datetime, now: datetime) -> None:
    wrong = [
        Violation(f"parameters.{violation.field}", violation.description)
        for violation in setting_violations(settings, Level.OVERRIDE)
    ]
    if not settings:
        wrong.append(Violation("parameters", "must set at least one parameter"))
    if not now < expire_time <= now + LONGEST_OVERRIDE:
        days = LONGEST_OVERRIDE.days
        wrong.append(Violation("expire_time", f"must be in the future, at most {days} days ahead"))
    if wrong:
        raise InvalidRequestError.of(wrong)


def _write(
    tx: Transaction,
    revision: int,
    now: datetime,
    cause: Cause,
    author: Author,
    changes: Mapping[str, Change],
) -> None:
    """Stores a revision of overrides and its events; `changes` are by the text of their event."""
    names = [change.key.name for change in changes.values()]
    documents.record_override_revision(tx, names, revision)
    revisions.write_revision(tx, revision, now, cause, author, list(changes.values()))
    why = f" ({author.message})" if author.message else ""
    events.insert_events(
        tx,
        [
            Event(now, EventKind.QUEUE_APPLIED, text + why, queue=change.key.name, user=author.name)
            for text, change in changes.items()
        ],
    )


def _change(name: str, before: Sequence[Override], after: Sequence[Override]) -> Change:
    old, new = (
        QueueSettings(**{override.parameter: override.value for override in overrides})
        for overrides in (before, after)
    )
    return Change(DocumentKey(DocumentKind.QUEUE, name), old, new, of_overrides=True)


def _names(overrides: Sequence[Override]) -> str:
    return ", ".join(sorted(override.parameter for override in overrides))
