"""Who may use a queue, and how much of it: the one function that decides is also the one that explains.

The list of a queue holds an entry a subject. Denials win over allowances, whatever else matches. Each
limit is decided by itself, by the most specific matching entry that says something about it; among
equally specific ones by the most generous, so that being in one more group never costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pandawn_server.domain.access.principals import Method, Principal

MAX_ENTRIES = 10_000
"""Most entries of a queue's list; a group says the same of more people in one."""

NO_LIMIT = 0
"""A limit that is none, as in the parameters of queues."""


class SubjectKind(Enum):
    """What an entry names. The values are stored."""

    USER = "user"
    DN = "dn"
    """Certificates whose whole distinguished name fits a pattern, in which `*` stands for anything."""

    TOKEN_GROUP = "token-group"  # noqa: S105 (no password)
    """A group that a token names, or one below it: `/atlas` has `/atlas/higgs` in it."""

    GROUP = "group"
    """A group of the caller, whichever credential names it."""

    EVERYBODY = "everybody"


_BREADTH = {kind: breadth for breadth, kind in enumerate(SubjectKind)}


class Effect(Enum):
    """What an entry does. The values are stored."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """A line of a queue's list: who, what, and who wrote it.

    `subject` is empty for everybody. Limits and the offset are None where the entry says nothing
    about them; a limit of 0 is none. An entry without `expire_time` stands until it is revoked.
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
        """The subject in words."""
        if self.kind is SubjectKind.EVERYBODY:
            return "everybody"
        return f"{self.kind.value} {self.subject}"

    @property
    def breadth(self) -> tuple[int, int]:
        """Orders entries from the most specific to the least, those that are equally so with the same value.

        A pattern says the more the longer it is, a token's group the deeper it is; other names of one
        kind say as much as each other.
        """
        said = 0
        if self.kind is SubjectKind.DN:
            said = len(self.subject.replace("*", ""))
        elif self.kind is SubjectKind.TOKEN_GROUP:
            said = self.subject.rstrip("/").count("/")
        return _BREADTH[self.kind], -said

    def stands(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expire_time is None or self.expire_time > now


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a list is asked about. Without a `method` it is a name only: no credential was seen."""

    user: str
    groups: tuple[str, ...] = ()
    method: Method | None = None
    subject: str = ""

    @classmethod
    def of(cls, principal: Principal) -> Identity:
        """What a list looks at of a caller."""
        return cls(principal.name, principal.groups, principal.method, principal.subject)


@dataclass(frozen=True, slots=True)
class QueueRules:
    """What a queue says of those on whom its list is silent: whether they may, and their limits."""

    is_open: bool = True
    max_running: int = NO_LIMIT
    max_waiting: int = NO_LIMIT


class Ground(Enum):
    """Why somebody may or may not use a queue."""

    DENIED = "denied"
    ALLOWED = "allowed"
    OPEN = "open"
    NOT_LISTED = "not-listed"


@dataclass(frozen=True, slots=True)
class Term:
    """A number that holds for somebody; `entry` is None where the queue itself says it."""

    value: int
    entry: AccessEntry | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a queue's list says of somebody.

    `entry` is the one that decides, None where none matches. `matching` has all entries that match,
    the most specific first.
    """

    ground: Ground
    entry: AccessEntry | None
    matching: tuple[AccessEntry, ...]
    max_running: Term
    max_waiting: Term
    priority_offset: Term

    @property
    def is_allowed(self) -> bool:
        """Whether tasks may be submitted."""
        return self.ground in {Ground.ALLOWED, Ground.OPEN}


def decide(
    entries: Iterable[AccessEntry], who: Identity, rules: QueueRules, now: datetime
) -> Decision:
    """What the list of one queue says of somebody; the order of the entries does not matter."""
    matching = sorted(
        (entry for entry in entries if entry.stands(now) and matches(entry, who)),
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
    said: Callable[[AccessEntry], int | None],
    default: int,
    generosity: Callable[[int], float],
) -> Term:
    saying = [(entry, value) for entry in allowing if (value := said(entry)) is not None]
    if not saying:
        return Term(default)
    equal = [pair for pair in saying if pair[0].breadth == saying[0][0].breadth]
    entry, value = max(equal, key=lambda pair: generosity(pair[1]))
    return Term(value, entry)


def matches(entry: AccessEntry, who: Identity) -> bool:
    """Whether an entry speaks of somebody, expired or not."""
    match entry.kind:
        case SubjectKind.EVERYBODY:
            return True
        case SubjectKind.USER:
            return entry.subject == who.user
        case SubjectKind.GROUP:
            return entry.subject in who.groups
        case SubjectKind.TOKEN_GROUP:
            # Only what an issuer has signed: another credential may name groups as it likes.
            return who.method is Method.TOKEN and any(
                _is_within(group, entry.subject) for group in who.groups
            )
        case SubjectKind.DN:
            # A token's subject may look like a name in a certificate.
            return who.method is Method.X509 and fits(entry.subject, who.subject)


def _is_within(group: str, of: str) -> bool:
    return group == of or (of.startswith("/") and group.startswith(of.rstrip("/") + "/"))


def fits(pattern: str, text: str) -> bool:
    """Whether the whole of a text fits a pattern, in which `*` stands for any characters, also none.

    Takes time in the order of pattern times text, whatever they are; a regular expression would not.
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
    """The decision in words, for those who keep the list."""
    match decision.ground:
        case Ground.OPEN:
            return f"{who.user} may use queue {queue}: no entry of its list matches, and it is open"
        case Ground.NOT_LISTED:
            return (
                f"{who.user} may not use queue {queue}: no entry of its list matches, "
                "and it takes those on its list only"
            )
        case Ground.ALLOWED:
            assert decision.entry is not None
            return f"{who.user} may use queue {queue}: its list allows {decision.entry.who}"
        case Ground.DENIED:
            assert decision.entry is not None
            also = next((e for e in decision.matching if e.effect is Effect.ALLOW), None)
            won = "" if also is None else f"; that it allows {also.who} too does not help"
            return (
                f"{who.user} may not use queue {queue}: its list denies {decision.entry.who}{won}"
            )
