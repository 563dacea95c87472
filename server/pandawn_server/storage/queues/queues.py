"""Which queues there are, and of which sites; what they are is in the documents of the configuration."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, func, select

from pandawn_server.domain.queues.layers import DocumentKind
from pandawn_server.storage.among import among
from pandawn_server.storage.bulk import insert_rows
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues.schema import config_documents, queues

# Only the document of a queue itself says of which site it is; without that it is of the site of its name.
_SITE: ColumnElement[str] = func.coalesce(
    func.nullif(config_documents.c.settings["site"].as_string(), ""), config_documents.c.name
)

_OF_QUEUES = config_documents.c.kind == DocumentKind.QUEUE.value


def site_of(tx: Transaction, name: str) -> str:
    """The site of a queue; empty if there is no such queue."""
    query = select(_SITE).where(
        _OF_QUEUES, config_documents.c.name == name, ~config_documents.c.is_deleted
    )
    return tx.execute(query).scalar() or ""


def names_of_sites(tx: Transaction, sites: Collection[str]) -> list[str]:
    """Names of the queues of some sites, in order."""
    if not sites:
        return []
    query = (
        select(config_documents.c.name)
        .where(_OF_QUEUES, ~config_documents.c.is_deleted, among(tx, _SITE, sites))
        .order_by(config_documents.c.name)
    )
    return list(tx.execute(query).scalars())


def add_queues(tx: Transaction, names: Collection[str]) -> None:
    """Notes that queues of these names exist or existed; those known already are passed over."""
    if names:
        query = select(queues.c.name).where(among(tx, queues.c.name, names))
        known = set(tx.execute(query).scalars())
        insert_rows(tx, queues, ("name",), ((name,) for name in names if name not in known))
