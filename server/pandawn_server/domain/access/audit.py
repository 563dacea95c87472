"""What somebody did or was refused: lines of the audit, and how floods of refusals become few of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

DENIALS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
"""Outcomes that say that somebody wanted what was not for them."""


@dataclass(frozen=True, slots=True)
class About:
    """What a call was about; 0 and '' stand for *not concerned*.

    `thing` names what has no field of its own, as in *sandbox 3f…* or *revision 17*.
    """

    task_id: int = 0
    job_id: int = 0
    queue: str = ""
    site: str = ""
    node: str = ""
    thing: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A line of the audit: who, by which credential and rule, from where, what, about what, and the outcome.

    `code` is OK or the name of a status code, with `reason` and `text` of the error. A line may stand for
    `count` calls that differ in nothing but time and what they were about; `time` is that of the last.
    """

    time: datetime
    rpc: str
    peer: str
    code: str
    user: str = ""
    subject: str = ""
    method: str = ""
    rule: str = ""
    about: About = About()
    reason: str = ""
    text: str = ""
    count: int = 1

    @property
    def is_denied(self) -> bool:
        """Whether it was refused because of who asked."""
        return self.code in DENIALS


@dataclass(frozen=True, slots=True)
class NumberedRecord:
    """A line with its place in the audit."""

    audit_id: int
    record: AuditRecord


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines to list; empty is any."""

    user: str = ""
    rpcs: tuple[str, ...] = ()
    queue: str = ""
    task_id: int = 0
    since: datetime | None = None
    denied_only: bool = False


BURST = 200
"""Lines about refusals that may be written at once."""

REFILL = timedelta(seconds=1)
"""Time in which one more may: under an attack that never ends, some 86,000 lines or 20 MB a day."""

MAX_KEPT = 1_000
"""Kinds of refusals that are counted apart while they wait to be written."""


class RefusalTally:
    """Refusals that wait to be written: equal ones are counted, and few are let out at a time.

    A flood costs the memory of `MAX_KEPT` lines and the writing of one a second. The first refusals of a
    kind, those that an honest caller runs into, are written within a second all the same.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[str, ...], AuditRecord] = OrderedDict()
        self._tokens = float(BURST)
        self._filled: datetime | None = None

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, record: AuditRecord) -> None:
        """Counts a refusal."""
        key = _kind(record)
        if key not in self._kinds and len(self._kinds) >= MAX_KEPT:
            # Whoever draws a new name or address for each call: only what was refused is told apart.
            record = replace(
                record, user="", subject="", peer="", about=About(), text="many callers"
            )
            key = _kind(record)
        known = self._kinds.get(key)
        if known is not None:
            record = replace(record, count=known.count + record.count)
        self._kinds[key] = record

    def take(self, now: datetime) -> list[AuditRecord]:
        """What may be written now, those first that came first."""
        if self._filled is not None:
            self._tokens = min(BURST, self._tokens + (now - self._filled) / REFILL)
        self._filled = now
        taken = []
        while self._kinds and self._tokens >= 1:
            self._tokens -= 1
            taken.append(self._kinds.popitem(last=False)[1])
        return taken

    def take_all(self) -> list[AuditRecord]:
        """All that is left, before the end."""
        taken = list(self._kinds.values())
        self._kinds.clear()
        return taken


def _kind(record: AuditRecord) -> tuple[str, ...]:
    return (record.rpc, record.code, record.reason, record.user, record.method, record.peer)


def cleaned(text: str, characters: int = 256) -> str:
    """Text of a caller as it may be stored and shown: cut, and without controls, which no database takes all of."""
    kept = text[:characters]
    return kept if kept.isprintable() else "".join(c if c.isprintable() else "?" for c in kept)


def about_error(metadata: Mapping[str, str]) -> About:
    """What an error says of what it was about."""
    return About(
        task_id=_number(metadata.get("task_id", "")),
        job_id=_number(metadata.get("job_id", "")),
        queue=cleaned(metadata.get("queue", "")),
        site=cleaned(metadata.get("site", "")),
        node=cleaned(metadata.get("node", "")),
    )


def joined(first: About, second: About) -> About:
    """What either says; the first counts where both do."""
    return About(
        first.task_id or second.task_id,
        first.job_id or second.job_id,
        first.queue or second.queue,
        first.site or second.site,
        first.node or second.node,
        first.thing or second.thing,
        first.request_id or second.request_id,
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0
