"""Names of queues and their sites; their parameters are in the documents of the configuration."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, func, select

from pandawn_server.domain.queues.layers import DocumentKind
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues.schema import config_documents, queues

# Only the queue's own document gives its site; without one, its name is its site.
_SITE: ColumnElement[str] = func.coalesce(
    func.nullif(config_documents.c.settings["site"].as_string(), ""), config_documents.c.name
)

_OF_QUEUES = config_documents.c.kind == DocumentKind.QUEUE.value


def site_of(tx: Transaction, name: str) -> str:
    """Returns the site of a queue; empty if there is no such queue."""
    query = select(_SITE).where(
        _OF_QUEUES, config_documents.c.name == name, ~config_documents.c.is_deleted
    )
    return tx.execute(query).scalar() or ""


def names_of_sites(tx: Transaction, sites: Collection[str]) -> list[str]:
    """Returns the names of the queues of some sites, in order."""
    if not sites:
        return []
    query = (
        select(config_documents.c.name)
        .where(_OF_QUEUES, ~config_documents.c.is_deleted, among(tx, _SITE, sites))
        .order_by(config_documents.c.name)
    )
    return list(tx.execute(query).scalars())


def add_queues(tx: Transaction, names: Collection[str]) -> None:
    """Records the names of queues that exist or existed; known names are skipped."""
    if names:
        query = select(queues.c.name).where(among(tx, queues.c.name, names))
        known = set(tx.execute(query).scalars())
        insert_rows(tx, queues, ("name",), ((name,) for name in names if name not in known))
