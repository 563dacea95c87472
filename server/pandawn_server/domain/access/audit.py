"""The lines of the audit, and how a flood of refusals is reduced to a few lines."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

DENIALS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
"""Status codes of calls that were denied because of the caller."""


@dataclass(frozen=True, slots=True)
class About:
    """The objects of a call; 0 and '' mean none.

    `thing` names an object without a field of its own, such as *sandbox 3f…* or *revision 17*.
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
    """A line of the audit: caller, credential, admission rule, address, method, objects, and outcome.

    `code` is OK or the name of a status code, with `reason` and `text` of the error. A line may represent
    `count` calls that differ only in time and objects; `time` is that of the last.
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
        """Whether the call was denied because of the caller."""
        return self.code in DENIALS


@dataclass(frozen=True, slots=True)
class NumberedRecord:
    """A line with its number in the audit."""

    audit_id: int
    record: AuditRecord


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines to list; an empty field matches all."""

    user: str = ""
    rpcs: tuple[str, ...] = ()
    queue: str = ""
    task_id: int = 0
    since: datetime | None = None
    denied_only: bool = False


BURST = 200
"""The number of lines about refusals that can be written in a burst."""

REFILL = timedelta(seconds=1)
"""Time for one more line: a permanent attack then writes about 86,000 lines, or 20 MB, a day."""

MAX_KEPT = 1_000
"""The number of kinds of refusals that are counted separately while they wait to be written."""


class RefusalTally:
    """Refusals that wait to be written: equal ones are counted, and the rate of writing is limited.

    A flood uses memory for at most `MAX_KEPT` lines, and writes one line a second. In normal operation
    refusals are still written within a second.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[str, ...], AuditRecord] = OrderedDict()
        self._tokens = float(BURST)
        self._filled: datetime | None = None

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, record: AuditRecord) -> None:
        """Adds a refusal, or counts it with an equal one."""
        key = _kind(record)
        if key not in self._kinds and len(self._kinds) >= MAX_KEPT:
            # The callers use a new name or address for each call: count only by what was refused.
            record = replace(
                record, user="", subject="", peer="", about=About(), text="many callers"
            )
            key = _kind(record)
        known = self._kinds.get(key)
        if known is not None:
            record = replace(record, count=known.count + record.count)
        self._kinds[key] = record

    def take(self, now: datetime) -> list[AuditRecord]:
        """The lines that may be written now, oldest first."""
        if self._filled is not None:
            self._tokens = min(BURST, self._tokens + (now - self._filled) / REFILL)
        self._filled = now
        taken = []
        while self._kinds and self._tokens >= 1:
            self._tokens -= 1
            taken.append(self._kinds.popitem(last=False)[1])
        return taken

    def take_all(self) -> list[AuditRecord]:
        """All remaining lines, for shutdown."""
        taken = list(self._kinds.values())
        self._kinds.clear()
        return taken


def _kind(record: AuditRecord) -> tuple[str, ...]:
    return (record.rpc, record.code, record.reason, record.user, record.method, record.peer)


def cleaned(text: str, characters: int = 256) -> str:
    """Text from a caller, made safe to store and show: truncated, with control characters replaced by `?`."""
    kept = text[:characters]
    return kept if kept.isprintable() else "".join(c if c.isprintable() else "?" for c in kept)


def about_error(metadata: Mapping[str, str]) -> About:
    """The objects named in the metadata of an error."""
    return About(
        task_id=_number(metadata.get("task_id", "")),
        job_id=_number(metadata.get("job_id", "")),
        queue=cleaned(metadata.get("queue", "")),
        site=cleaned(metadata.get("site", "")),
        node=cleaned(metadata.get("node", "")),
    )


def joined(first: About, second: About) -> About:
    """Both combined; where both name an object, the first wins."""
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
