"""The history of the configuration: who changed which documents, and the differences between revisions."""

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
    """How a document was changed."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, from where, with which program, and why.

    `name` is the user, or the `subject` of the credential if there is none; `peer` is the address in gRPC's
    notation; `tool` and `message` are given by the author. `sites` are those whose configuration the author
    may change; None: all, for operators and the server itself. It is not stored.
    """

    name: str
    subject: str = ""
    peer: str = ""
    tool: str = ""
    message: str = ""
    sites: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the configuration, with the number of documents (for overrides: queues) that it changed."""

    revision: int
    time: datetime
    cause: Cause
    author: Author
    created: int
    changed: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Change:
    """A document (or the overrides of a queue) before and after a change; None: it does not exist."""

    key: DocumentKey
    old: QueueSettings | None
    new: QueueSettings | None
    of_overrides: bool = False

    @property
    def action(self) -> Action:
        """How the document was changed."""
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
        """Whether nothing differs. A document that sets nothing differs from no document."""
        return (self.old is None) == (self.new is None) and not self.parameters

    @property
    def reversed(self) -> Change:
        """The reverse change."""
        return Change(self.key, self.new, self.old, self.of_overrides)


_ORDER = tuple(DocumentKind)


def in_order(key: DocumentKey) -> tuple[int, str]:
    """Returns a sort key for documents: clouds, sites, queues, each by name."""
    return _ORDER.index(key.kind), key.name


def composed(changes: Iterable[Change]) -> list[Change]:
    """Combines changes, oldest first, into one change for each document that differs in the end."""
    first: dict[DocumentKey, Change] = {}
    last: dict[DocumentKey, Change] = {}
    for change in changes:
        first.setdefault(change.key, change)
        last[change.key] = change
    joined = (Change(key, first[key].old, last[key].new) for key in sorted(first, key=in_order))
    return [change for change in joined if not change.is_empty]
