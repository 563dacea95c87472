"""The QueueConfig service."""

from __future__ import annotations

from pandawn.queueconfig.v1 import queueconfig_pb2
from pandawn_server.domain.queues import SETTING_NAMES
from pandawn_server.usecases import configure_queues
from pandawn_server.wire.access import AccessMethods
from pandawn_server.wire.convert.queues import from_queue, settings_given, to_queue
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.handlers import ServicerContext
from pandawn_server.wire.page_token import decode_page_token, encode_page_token
from pandawn_server.wire.validation import Checker

MAX_MASK = 1000
"""Parameters that a mask may name: there are fewer."""


class QueueConfigServicer(AccessMethods):
    """See `pandawn/queueconfig/v1/queueconfig.proto`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def GetQueue(  # noqa: N802 (gRPC's name)
        self, request: queueconfig_pb2.GetQueueRequest, context: ServicerContext
    ) -> queueconfig_pb2.GetQueueResponse:
        """Returns one queue."""
        del context
        check = Checker()
        check.queue("name", request.name)
        check.done()
        queue = await self._deps.runner.run(
            configure_queues.get_queue, self._deps.context, request.name
        )
        return queueconfig_pb2.GetQueueResponse(queue=to_queue(queue))

    async def ListQueues(  # noqa: N802 (gRPC's name)
        self, request: queueconfig_pb2.ListQueuesRequest, context: ServicerContext
    ) -> queueconfig_pb2.ListQueuesResponse:
        """Lists queues by name."""
        del context
        check = Checker()
        check.site("site", request.site, required=False)
        size = check.page_size(request.page_size)
        check.done()
        filters = (request.site,)
        key = decode_page_token(request.page_token, "ListQueues", filters, (str,))
        queues = await self._deps.runner.run(
            configure_queues.list_queues,
            self._deps.context,
            str(key[0]) if key else "",
            size + 1,
            request.site,
        )
        page = queues[:size]
        token = ""
        if len(queues) > size:
            token = encode_page_token("ListQueues", filters, (page[-1].name,))
        return queueconfig_pb2.ListQueuesResponse(queues=map(to_queue, page), next_page_token=token)

    async def ApplyQueue(  # noqa: N802 (gRPC's name)
        self, request: queueconfig_pb2.ApplyQueueRequest, context: ServicerContext
    ) -> queueconfig_pb2.ApplyQueueResponse:
        """Creates or changes a queue."""
        del context
        check = Checker()
        settings = from_queue(check, request.queue)
        check.count("update_mask.paths", request.update_mask.paths, 0, MAX_MASK)
        for position, name in enumerate(request.update_mask.paths):
            check.require(
                name in SETTING_NAMES,
                ("update_mask.paths", position),
                f"{name[:64]!r} is not a parameter; they are {', '.join(SETTING_NAMES)}",
            )
        check.done()
        mask = list(request.update_mask.paths) or settings_given(request.queue)
        applied = await self._deps.runner.run(
            configure_queues.apply_queue,
            self._deps.context,
            request.queue.name,
            settings,
            mask,
            request.etag,
        )
        # A queue that goes offline, or gets another site, concerns pilots that wait.
        self._deps.waiting.notify(applied.queue.name)
        return queueconfig_pb2.ApplyQueueResponse(
            queue=to_queue(applied.queue), created=applied.created
        )
