"""The methods of QueueConfig about access lists."""

from __future__ import annotations

from pandawn.queueconfig.v1 import access_pb2, queueconfig_pb2_grpc
from pandawn_server.domain.access.reach import may_see
from pandawn_server.usecases.access import lists
from pandawn_server.wire.access.convert import (
    MAX_SUBJECT_BYTES,
    from_entry,
    from_subject,
    to_checked,
    to_entry,
)
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.page_token import decode_page_token, encode_page_token
from pandawn_server.wire.edge.pages import page_of
from pandawn_server.wire.edge.validation import Checker

MAX_GROUPS = 100
"""The largest number of groups in a request; tokens contain fewer."""


class AccessMethods(queueconfig_pb2_grpc.QueueConfigServicer):
    """See `pandawn/queueconfig/v1/access.proto`."""

    _deps: Deps

    async def GrantAccess(
        self, request: access_pb2.GrantAccessRequest, _context: ServicerContext
    ) -> access_pb2.GrantAccessResponse:
        """Writes an entry."""
        check = Checker()
        entry = from_entry(check, request.entry)
        check.done()
        granted = await self._deps.runner.run(
            lists.grant_access, self._deps.context, entry, caller()
        )
        return access_pb2.GrantAccessResponse(
            entry=to_entry(granted.entry),
            replaced=None if granted.replaced is None else to_entry(granted.replaced),
            is_open=granted.is_open,
        )

    async def RevokeAccess(
        self, request: access_pb2.RevokeAccessRequest, _context: ServicerContext
    ) -> access_pb2.RevokeAccessResponse:
        """Removes an entry."""
        check = Checker()
        check.queue("queue", request.queue)
        kind, subject = from_subject(check, "", request.kind, request.subject)
        check.done()
        revoked = await self._deps.runner.run(
            lists.revoke_access, self._deps.context, request.queue, kind, subject, caller()
        )
        return access_pb2.RevokeAccessResponse(
            entry=to_entry(revoked.entry), is_open=revoked.is_open
        )

    async def ListAccess(
        self, request: access_pb2.ListAccessRequest, _context: ServicerContext
    ) -> access_pb2.ListAccessResponse:
        """Lists entries."""
        check = Checker()
        check.queue("queue", request.queue)
        size = check.page_size(request.page_size)
        check.done()
        by = caller()
        filters = (request.queue, *may_see(by).key)
        key = decode_page_token(request.page_token, "ListAccess", filters, (str, str))
        found, is_open = await self._deps.runner.run(
            lists.list_access,
            self._deps.context,
            request.queue,
            (str(key[0]), str(key[1])) if key else None,
            size + 1,
            by,
        )
        page, ends = page_of(found, size, to_entry)
        token = ""
        for last in ends:
            token = encode_page_token("ListAccess", filters, (last.kind.value, last.subject))
        return access_pb2.ListAccessResponse(entries=page, next_page_token=token, is_open=is_open)

    async def CheckAccess(
        self, request: access_pb2.CheckAccessRequest, _context: ServicerContext
    ) -> access_pb2.CheckAccessResponse:
        """Checks whether a user may submit, and why."""
        check = Checker()
        check.queue("queue", request.queue)
        check.user("user", request.user, required=False)
        check.count("groups", request.groups, 0, MAX_GROUPS)
        for position, group in enumerate(request.groups):
            check.text(("groups", position), group, max_bytes=MAX_SUBJECT_BYTES)
        check.done()
        checked = await self._deps.runner.run(
            lists.check_access,
            self._deps.context,
            request.queue,
            request.user,
            tuple(request.groups),
            caller(),
        )
        return to_checked(checked)
