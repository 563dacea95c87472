"""The history of the configuration: who changed which documents, and what is different between two times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import NOTHING_SET, SETTING_NAMES, QueueSettings


class Cause(Enum):
    """What made a revision."""

    APPLY = "apply"
    OVERRIDE = "override"
    CLEAR = "clear"
    EXPIRE = "expire"
    ROLLBACK = "rollback"
    MIGRATION = "migration"


class Action(Enum):
    """What became of a document."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, from where, by what, and why.

    `name` is the user, or what the credential says where there is none (`subject`); `peer` the address as
    gRPC gives it; `tool` and `message` are the author's own words. `sites` are those whose configuration is
    the author's to change; None: all, as for operators and the server itself. It is not kept.
    """

    name: str
    subject: str = ""
    peer: str = ""
    tool: str = ""
    message: str = ""
    sites: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the configuration, with the numbers of documents (or, of overrides, queues) it touched."""

    revision: int
    time: datetime
    cause: Cause
    author: Author
    created: int
    changed: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Change:
    """A document (or the overrides of a queue) before and after; None: it is not there."""

    key: DocumentKey
    old: QueueSettings | None
    new: QueueSettings | None
    of_overrides: bool = False

    @property
    def action(self) -> Action:
        """What became of it."""
        if self.of_overrides:
            return Action.OVERRIDE
        if self.old is None:
            return Action.CREATE
        return Action.DELETE if self.new is None else Action.CHANGE

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that differ, in the order of the contract."""
        old, new = self.old or NOTHING_SET, self.new or NOTHING_SET
        return tuple(name for name in SETTING_NAMES if old.get(name) != new.get(name))

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs. A document that sets nothing is more than none."""
        return (self.old is None) == (self.new is None) and not self.parameters

    @property
    def reversed(self) -> Change:
        """The way back."""
        return Change(self.key, self.new, self.old, self.of_overrides)


_ORDER = tuple(DocumentKind)


def in_order(key: DocumentKey) -> tuple[int, str]:
    """Sorts documents: clouds, sites, queues, each by name."""
    return _ORDER.index(key.kind), key.name


def composed(changes: Iterable[Change]) -> list[Change]:
    """What many changes, the oldest first, come to: one for each document that differs in the end."""
    first: dict[DocumentKey, Change] = {}
    last: dict[DocumentKey, Change] = {}
    for change in changes:
        first.setdefault(change.key, change)
        last[change.key] = change
    joined = (Change(key, first[key].old, last[key].new) for key in sorted(first, key=in_order))
    return [change for change in joined if not change.is_empty]
