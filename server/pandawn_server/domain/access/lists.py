"""Access lists: who may use a queue, and with which limits. The same function decides and explains.

The list of a queue has one entry per subject. A matching deny entry always wins. Each limit is decided
separately, by the most specific matching entry that sets it; among equally specific entries the most
generous wins, so that membership in another group never lowers a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pandawn_server.domain.access.principals import Method, Principal

MAX_ENTRIES = 10_000
"""The largest number of entries in a queue's list; larger sites use groups."""

NO_LIMIT = 0
"""The value that means no limit, as in the parameters of queues."""


class SubjectKind(Enum):
    """The kind of subject of an entry. The values are stored in the database."""

    USER = "user"
    DN = "dn"
    """Certificates whose whole distinguished name matches a pattern, in which `*` matches any characters."""

    TOKEN_GROUP = "token-group"  # noqa: S105 (no password)
    """A group in a token, or a subgroup of it: `/atlas` includes `/atlas/higgs`."""

    GROUP = "group"
    """A group of the caller, from any credential."""

    EVERYBODY = "everybody"


_BREADTH = {kind: breadth for breadth, kind in enumerate(SubjectKind)}


class Effect(Enum):
    """The effect of an entry. The values are stored in the database."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """An entry of a queue's list: subject, effect, limits, and who wrote it.

    `subject` is empty for everybody. Limits and the priority offset are None if the entry does not set
    them; a limit of 0 means no limit. An entry without `expire_time` is valid until it is revoked.
    """

    queue: str
    kind: SubjectKind
    subject: str
    effect: Effect
    granted_by: str
    grant_time: datetime
    message: str = ""
    expire_time: datetime | None = None
    max_running: int | None = None
    max_waiting: int | None = None
    priority_offset: int | None = None

    def __str__(self) -> str:
        return f"{self.effect.value} {self.who}"

    @property
    def who(self) -> str:
        """The subject as text."""
        if self.kind is SubjectKind.EVERYBODY:
            return "everybody"
        return f"{self.kind.value} {self.subject}"

    @property
    def breadth(self) -> tuple[int, int]:
        """A sort key from the most to the least specific entry; equally specific entries have the same key.

        A longer pattern is more specific, and so is a deeper group of a token. Other subjects of one kind
        are equally specific.
        """
        detail = 0
        if self.kind is SubjectKind.DN:
            detail = len(self.subject.replace("*", ""))
        elif self.kind is SubjectKind.TOKEN_GROUP:
            detail = self.subject.rstrip("/").count("/")
        return _BREADTH[self.kind], -detail

    def is_valid(self, now: datetime) -> bool:
        """Whether it has not expired at time `now`."""
        return self.expire_time is None or self.expire_time > now


@dataclass(frozen=True, slots=True)
class Identity:
    """The user to check against a list. Without a `method` it is only a name: no credential was seen."""

    user: str
    groups: tuple[str, ...] = ()
    method: Method | None = None
    subject: str = ""

    @classmethod
    def of(cls, principal: Principal) -> Identity:
        """The identity of a caller."""
        return cls(principal.name, principal.groups, principal.method, principal.subject)


@dataclass(frozen=True, slots=True)
class QueueRules:
    """A queue's defaults for users without a matching entry: whether they may use it, and their limits."""

    is_open: bool = True
    max_running: int = NO_LIMIT
    max_waiting: int = NO_LIMIT


class Ground(Enum):
    """Why a user may or may not use a queue."""

    DENIED = "denied"
    ALLOWED = "allowed"
    OPEN = "open"
    NOT_LISTED = "not-listed"


@dataclass(frozen=True, slots=True)
class Term:
    """A limit or offset of a user; `entry` is None if it is the queue's default."""

    value: int
    entry: AccessEntry | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of a queue's list about a user.

    `entry` is the deciding entry; None if none matches. `matching` are all matching entries, most
    specific first.
    """

    ground: Ground
    entry: AccessEntry | None
    matching: tuple[AccessEntry, ...]
    max_running: Term
    max_waiting: Term
    priority_offset: Term

    @property
    def is_allowed(self) -> bool:
        """Whether the user may submit tasks."""
        return self.ground in {Ground.ALLOWED, Ground.OPEN}


def decide(
    entries: Iterable[AccessEntry], who: Identity, rules: QueueRules, now: datetime
) -> Decision:
    """Decides about a user by the list of one queue; the order of the entries does not matter."""
    matching = sorted(
        (entry for entry in entries if entry.is_valid(now) and matches(entry, who)),
        key=lambda entry: (entry.breadth, entry.subject),
    )
    allowing = [entry for entry in matching if entry.effect is Effect.ALLOW]
    denying = [entry for entry in matching if entry.effect is Effect.DENY]
    if denying:
        ground, deciding = Ground.DENIED, denying[0]
    elif allowing:
        ground, deciding = Ground.ALLOWED, allowing[0]
    else:
        ground, deciding = (Ground.OPEN if rules.is_open else Ground.NOT_LISTED), None
    return Decision(
        ground,
        deciding,
        tuple(matching),
        _term(allowing, lambda e: e.max_running, rules.max_running, _generosity),
        _term(allowing, lambda e: e.max_waiting, rules.max_waiting, _generosity),
        _term(allowing, lambda e: e.priority_offset, 0, float),
    )


def _generosity(limit: int) -> float:
    return float("inf") if limit == NO_LIMIT else limit


def _term(
    allowing: Sequence[AccessEntry],
    value_of: Callable[[AccessEntry], int | None],
    default: int,
    generosity: Callable[[int], float],
) -> Term:
    setting = [(entry, value) for entry in allowing if (value := value_of(entry)) is not None]
    if not setting:
        return Term(default)
    equal = [pair for pair in setting if pair[0].breadth == setting[0][0].breadth]
    entry, value = max(equal, key=lambda pair: generosity(pair[1]))
    return Term(value, entry)


def matches(entry: AccessEntry, who: Identity) -> bool:
    """Whether an entry, expired or not, matches a user."""
    match entry.kind:
        case SubjectKind.EVERYBODY:
            return True
        case SubjectKind.USER:
            return entry.subject == who.user
        case SubjectKind.GROUP:
            return entry.subject in who.groups
        case SubjectKind.TOKEN_GROUP:
            # Only groups that an issuer has signed: other credentials may contain any groups.
            return who.method is Method.TOKEN and any(
                _is_within(group, entry.subject) for group in who.groups
            )
        case SubjectKind.DN:
            # Only certificates: the subject of a token may look like a DN.
            return who.method is Method.X509 and fits(entry.subject, who.subject)


def _is_within(group: str, of: str) -> bool:
    return group == of or (of.startswith("/") and group.startswith(of.rstrip("/") + "/"))


def fits(pattern: str, text: str) -> bool:
    """Whether a pattern, in which `*` matches any number of characters, matches the whole text.

    The time is at most proportional to the product of their lengths; that of a regular expression is not.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def sentence(decision: Decision, who: Identity, queue: str) -> str:
    """The decision as a sentence, for the administrators of the list."""
    match decision.ground:
        case Ground.OPEN:
            return f"{who.user} may use queue {queue}: no entry of its list matches, and it is open"
        case Ground.NOT_LISTED:
            return (
                f"{who.user} may not use queue {queue}: no entry of its list matches, "
                "and it is open only to users on its list"
            )
        case Ground.ALLOWED:
            assert decision.entry is not None
            return f"{who.user} may use queue {queue}: its list allows {decision.entry.who}"
        case Ground.DENIED:
            assert decision.entry is not None
            also = next((e for e in decision.matching if e.effect is Effect.ALLOW), None)
            won = "" if also is None else f", which overrides that it allows {also.who}"
            return (
                f"{who.user} may not use queue {queue}: its list denies {decision.entry.who}{won}"
            )
