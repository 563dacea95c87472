"""The QueueConfig service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from pandawn.queueconfig.v1 import document_pb2, override_pb2, queue_pb2, revision_pb2
from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import SETTING_NAMES, Queue, queue_not_found
from pandawn_server.usecases.queues import change, configure, history, overrides
from pandawn_server.wire.access.lists import AccessMethods
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.enums import DOCUMENT_KIND
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.page_token import decode_page_token, encode_page_token
from pandawn_server.wire.edge.pages import page_of
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import digest_of
from pandawn_server.wire.leases.nodes import NodeMethods
from pandawn_server.wire.queues import config as convert
from pandawn_server.wire.queues.convert import (
    from_settings,
    to_queue,
    to_queue_for,
)

MAX_MASK = 1000
"""Maximum number of parameters in a mask; fewer exist."""

MAX_CHANGES = 30_000
"""Maximum number of documents in one request: a message of 32 MiB holds as many usual ones."""

_MAX_REVISION = 2**62


class QueueConfigServicer(AccessMethods, NodeMethods):
    """See `pandawn/queueconfig/v1/queueconfig.proto`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._run = deps.runner.run
        self._context = deps.context

    async def GetQueue(
        self, request: queue_pb2.GetQueueRequest, _context: ServicerContext
    ) -> queue_pb2.GetQueueResponse:
        """Returns one queue."""
        check = Checker()
        check.queue("name", request.name)
        check.done()
        if request.with_origins:
            queue, origins = await self._run(configure.get_origins, self._context, request.name)
            return queue_pb2.GetQueueResponse(
                queue=to_queue_for(caller(), queue), origins=convert.to_origins(origins)
            )
        # Usually it is in the cache, and needs no thread.
        found = self._deps.config_watch.queue(request.name)
        if found is None:
            found = await self._run(configure.get_queue, self._context, request.name)
        return queue_pb2.GetQueueResponse(queue=to_queue_for(caller(), found))

    async def ListQueues(
        self, request: queue_pb2.ListQueuesRequest, _context: ServicerContext
    ) -> queue_pb2.ListQueuesResponse:
        """Lists queues by name."""
        check = Checker()
        check.site("site", request.site, required=False)
        size = check.page_size(request.page_size)
        check.done()
        filters = (request.site,)
        key = decode_page_token(request.page_token, "ListQueues", filters, (str,))
        queues = await self._run(
            configure.list_queues,
            self._context,
            str(key[0]) if key else "",
            size + 1,
            request.site,
        )
        page, ends = page_of(queues, size, partial(to_queue_for, caller()))
        token = ""
        for last in ends:
            token = encode_page_token("ListQueues", filters, (last.name,))
        return queue_pb2.ListQueuesResponse(queues=page, next_page_token=token)

    async def WatchQueue(
        self, request: queue_pb2.WatchQueueRequest, _context: ServicerContext
    ) -> AsyncGenerator[queue_pb2.WatchQueueResponse, None]:
        """Streams a queue and its changes."""
        check = Checker()
        check.queue("name", request.name)
        by = caller()
        check.range("after_revision", request.after_revision, 0, _MAX_REVISION)
        check.done()
        await self._run(configure.get_queue, self._context, request.name)
        watch = self._deps.config_watch
        sent: Queue | None = None
        with watch.watching(request.name) as changed:
            while not watch.closed:
                queue = watch.queue(request.name)
                if queue is None:
                    raise queue_not_found(request.name)
                if (
                    queue.revision != request.after_revision
                    if sent is None
                    else not _same_values(queue, sent)
                ):
                    sent = queue
                    yield queue_pb2.WatchQueueResponse(queue=to_queue_for(by, queue))
                await changed.wait()
                changed.clear()

    async def ApplyConfig(
        self, request: document_pb2.ApplyConfigRequest, _context: ServicerContext
    ) -> document_pb2.ApplyConfigResponse:
        """Changes many documents at once."""
        check = Checker()
        check.count("changes", request.changes, 1, MAX_CHANGES)
        author = convert.author_of(check, request.note)
        guards = convert.guards_of(check, request)
        check.done()
        # In a thread: thousands of documents would block the event loop.
        wanted = await self._run(convert.from_changes, check, request.changes)
        check.done()
        if request.validate_only:
            outcome = await self._run(change.preview_documents, self._context, wanted)
        else:
            outcome = await self._run(
                change.change_documents, self._context, wanted, author, guards
            )
        return await self._run(convert.to_applied, request, outcome)

    async def ExportConfig(
        self, request: document_pb2.ExportConfigRequest, _context: ServicerContext
    ) -> AsyncGenerator[document_pb2.ExportConfigResponse, None]:
        """Streams all documents of one revision."""
        check = Checker()
        check.count("kinds", request.kinds, 0, MAX_MASK)
        check.done()
        kinds = {DOCUMENT_KIND.to_domain(kind) for kind in request.kinds} or set(DocumentKind)
        check.require(None not in kinds, "kinds", "must be CLOUD, SITE or QUEUE")
        check.done()
        revision, found = await self._run(
            configure.export_documents,
            self._context,
            [kind for kind in kinds if kind is not None],
        )
        for some in convert.portions(found, convert.to_document):
            yield document_pb2.ExportConfigResponse(revision=revision, documents=some)

    async def SetOverride(
        self, request: override_pb2.SetOverrideRequest, _context: ServicerContext
    ) -> override_pb2.SetOverrideResponse:
        """Sets parameters for a limited time."""
        check = Checker()
        check.identifier("request_id", request.request_id)
        check.queue("queue", request.queue)
        settings, violations = from_settings(request.parameters)
        for violation in violations:
            check.add(f"parameters.{violation.field}", violation.description)
        author = convert.author_of(check, request.note)
        end = convert.end_of(check, request)
        check.done()
        queue, revision = await self._run(
            overrides.set_override,
            self._context,
            request.request_id,
            digest_of(request),
            request.queue,
            settings,
            end,
            author,
        )
        return override_pb2.SetOverrideResponse(queue=to_queue(queue), revision=revision)

    async def ClearOverride(
        self, request: override_pb2.ClearOverrideRequest, _context: ServicerContext
    ) -> override_pb2.ClearOverrideResponse:
        """Clears overrides."""
        check = Checker()
        check.queue("queue", request.queue)
        check.count("parameters", request.parameters, 0, MAX_MASK)
        check.done()
        for position, name in enumerate(request.parameters):
            check.require(
                name in SETTING_NAMES,
                ("parameters", position),
                convert.UNKNOWN_PARAMETER.format(name[:64]),
            )
        author = convert.author_of(check, request.note)
        check.done()
        queue, revision, count = await self._run(
            overrides.clear_override,
            self._context,
            request.queue,
            set(request.parameters),
            author,
        )
        return override_pb2.ClearOverrideResponse(
            queue=to_queue(queue), revision=revision, cleared_count=count
        )

    async def ListOverrides(
        self, request: override_pb2.ListOverridesRequest, _context: ServicerContext
    ) -> override_pb2.ListOverridesResponse:
        """Lists overrides in effect."""
        check = Checker()
        check.queue("queue", request.queue, required=False)
        size = check.page_size(request.page_size)
        check.done()
        filters = (request.queue,)
        key = decode_page_token(request.page_token, "ListOverrides", filters, (str, str))
        found = await self._run(
            configure.list_overrides,
            self._context,
            (str(key[0]), str(key[1])) if key else ("", ""),
            size + 1,
            request.queue,
        )
        page, ends = page_of(found, size, convert.to_override)
        token = ""
        for last in ends:
            key_of = last.override
            token = encode_page_token("ListOverrides", filters, (key_of.queue, key_of.parameter))
        return override_pb2.ListOverridesResponse(overrides=page, next_page_token=token)

    async def ListRevisions(
        self, request: revision_pb2.ListRevisionsRequest, _context: ServicerContext
    ) -> revision_pb2.ListRevisionsResponse:
        """Lists revisions, newest first."""
        check = Checker()
        size = check.page_size(request.page_size)
        kind = DOCUMENT_KIND.to_domain(request.kind)
        named = bool(request.name)
        check.require((kind is not None) == named, "kind", "must be set exactly when name is")
        check.name("name", request.name, required=False)
        check.done()
        filters = (int(request.kind), request.name)
        key = decode_page_token(request.page_token, "ListRevisions", filters, (int,))
        found = await self._run(
            history.list_revisions,
            self._context,
            int(key[0]) if key else 0,
            size + 1,
            DocumentKey(kind, request.name) if kind is not None else None,
        )
        page, ends = page_of(found, size, convert.to_revision)
        token = ""
        for last in ends:
            token = encode_page_token("ListRevisions", filters, (last.revision,))
        return revision_pb2.ListRevisionsResponse(revisions=page, next_page_token=token)

    async def DiffRevisions(
        self, request: revision_pb2.DiffRevisionsRequest, _context: ServicerContext
    ) -> AsyncGenerator[revision_pb2.DiffRevisionsResponse, None]:
        """Streams the differences between two revisions."""
        check = Checker()
        check.range("from_revision", request.from_revision, 0, _MAX_REVISION)
        check.range("to_revision", request.to_revision, 0, _MAX_REVISION)
        check.done()
        newer, changes = await self._run(
            history.diff_revisions,
            self._context,
            request.from_revision,
            request.to_revision,
        )
        for some in convert.portions(changes, convert.to_diff):
            yield revision_pb2.DiffRevisionsResponse(to_revision=newer, diffs=some)

    async def Rollback(
        self, request: revision_pb2.RollbackRequest, _context: ServicerContext
    ) -> revision_pb2.RollbackResponse:
        """Rolls all documents back to a revision."""
        check = Checker()
        check.range("revision", request.revision, 1, _MAX_REVISION)
        author = convert.author_of(check, request.note)
        guards = convert.guards_of(check, request)
        check.done()
        outcome = await self._run(
            history.rollback,
            self._context,
            request.revision,
            author,
            guards,
            validate_only=request.validate_only,
        )
        return await self._run(convert.to_rolled_back, request, outcome)


def _same_values(one: Queue, other: Queue) -> bool:
    """Whether two queues have the same parameters; etag, time and revision are not compared."""
    return one == replace(other, etag=one.etag, update_time=one.update_time, revision=one.revision)
