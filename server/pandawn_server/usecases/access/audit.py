"""Writes the audit, and lists it for the administrators of the sites that its lines are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pandawn_server.domain.access.audit import AuditFilter, AuditRecord, NumberedRecord
from pandawn_server.domain.access.principals import Principal, Role
from pandawn_server.storage.access import audit
from pandawn_server.storage.queues import queues
from pandawn_server.usecases.access.reach import merged, require_sites
from pandawn_server.usecases.context import Context


def write_audit(context: Context, records: Sequence[AuditRecord]) -> list[None]:
    """Adds lines; all are committed when it returns."""
    with context.db.write() as tx:
        audit.insert_records(tx, records)
    return [None] * len(records)


def list_audit(
    context: Context, before: int | None, limit: int, wanted: AuditFilter, by: Principal
) -> list[NumberedRecord]:
    """Up to `limit` lines with numbers below `before`, newest first.

    Operators see all lines; site administrators see those about their sites and these sites' queues.
    Raises `ForbiddenError` (SITE_ADMIN_REQUIRED) for the queue of another site.
    """
    with context.db.read() as tx:
        if by.is_operator:
            return audit.list_records(tx, before, limit, wanted)
        sites = by.sites if Role.SITE_ADMIN in by.roles else frozenset[str]()
        names = queues.names_of_sites(tx, sites)
        if wanted.queue and wanted.queue not in names:
            site = queues.site_of(tx, wanted.queue) or wanted.queue
            require_sites(by, [site], f"to read the audit of queue {wanted.queue!r}")
        parts = [
            replace(wanted, queue=name) for name in ([wanted.queue] if wanted.queue else names)
        ]
        found = [audit.list_records(tx, before, limit, part) for part in parts]
        found += [audit.list_records(tx, before, limit, wanted, site) for site in sorted(sites)]
        return merged(found, lambda line: line.audit_id, limit, descending=True)
