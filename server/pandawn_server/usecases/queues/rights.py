"""Which sites a change of the configuration affects, and whether its author administers them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.layers import Document, DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import QueueSettings
from pandawn_server.domain.queues.revisions import Author, Change
from pandawn_server.usecases.access.reach import require_among


def require_author_of(author: Author, base: Configuration, changes: Sequence[Change]) -> None:
    """Raises `ForbiddenError` (SITE_ADMIN_REQUIRED) unless the author may make all of some changes.

    The author must administer every site affected: for a queue, its old and its new site; for a cloud, the
    sites of all its queues.
    """
    if author.sites is None:
        return
    for change in changes:
        what = f"{change.key.kind.value} {change.key.name!r}"
        sites = _touched(base, change)
        if not sites:
            raise ForbiddenError(
                "SITE_ADMIN_REQUIRED",
                f"only an operator can change {what}, as it has no queues yet; ask an operator of this server",
                metadata={change.key.kind.value: change.key.name},
            )
        require_author_at(author, sites, what)


def require_author_at(author: Author, sites: Iterable[str], what: str) -> None:
    """Raises `ForbiddenError` (SITE_ADMIN_REQUIRED) unless the author administers all of `sites`."""
    require_among(author.sites, sites, f"to change {what}")


def _touched(base: Configuration, change: Change) -> set[str]:
    match change.key.kind:
        case DocumentKind.SITE:
            return {change.key.name}
        case DocumentKind.QUEUE:
            return {
                _site_of(change.key.name, settings)
                for settings in (change.old, change.new)
                if settings is not None
            }
        case DocumentKind.CLOUD:
            queues = {
                name: base.documents[DocumentKey(DocumentKind.QUEUE, name)] for name in base.names
            }
            return {
                _site_of(name, document.settings)
                for name, document in queues.items()
                if _cloud_of(base, name, document) == change.key.name
            }


def _site_of(name: str, settings: QueueSettings) -> str:
    # As in `layers_of`: the queue's document decides, or else its name.
    return str(settings.get("site") or name)


def _cloud_of(base: Configuration, name: str, document: Document) -> str:
    key = DocumentKey(DocumentKind.SITE, _site_of(name, document.settings))
    of_site = base.documents.get(key)
    inherited = "" if of_site is None else of_site.settings.get("cloud", "")
    return str(document.settings.get("cloud", inherited))
