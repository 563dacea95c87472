"""The methods of QueueConfig about worker nodes."""

from __future__ import annotations

from typing import TypeAlias

from pandawn.queueconfig.v1 import node_pb2, queueconfig_pb2_grpc
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.nodes import Condition
from pandawn_server.usecases.leases import control_nodes
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.enums import NODE_CONDITION
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.validation import Checker

MAX_REASON_BYTES = 1000
"""The largest length of a reason, in UTF-8."""

_Request: TypeAlias = (
    node_pb2.DrainNodeRequest
    | node_pb2.SuspendNodeRequest
    | node_pb2.ResumeNodeRequest
    | node_pb2.RemoveNodeRequest
)


class NodeMethods(queueconfig_pb2_grpc.QueueConfigServicer):
    """See `pandawn/queueconfig/v1/node.proto`."""

    _deps: Deps

    async def DrainNode(
        self, request: node_pb2.DrainNodeRequest, _context: ServicerContext
    ) -> node_pb2.DrainNodeResponse:
        """Stops giving jobs to a node, and ends its pilots after their jobs."""
        after = await self._change(request, Condition.DRAINED)
        return node_pb2.DrainNodeResponse(condition=NODE_CONDITION.to_wire(after))

    async def SuspendNode(
        self, request: node_pb2.SuspendNodeRequest, _context: ServicerContext
    ) -> node_pb2.SuspendNodeResponse:
        """Stops giving jobs to a node until it is resumed."""
        after = await self._change(request, Condition.SUSPENDED)
        return node_pb2.SuspendNodeResponse(condition=NODE_CONDITION.to_wire(after))

    async def ResumeNode(
        self, request: node_pb2.ResumeNodeRequest, _context: ServicerContext
    ) -> node_pb2.ResumeNodeResponse:
        """Gives a node jobs again."""
        after = await self._change(request, Condition.OPEN)
        return node_pb2.ResumeNodeResponse(condition=NODE_CONDITION.to_wire(after))

    async def RemoveNode(
        self, request: node_pb2.RemoveNodeRequest, _context: ServicerContext
    ) -> node_pb2.RemoveNodeResponse:
        """Removes a node."""
        key, reason = _checked(request)
        removed = await self._deps.runner.run(
            control_nodes.remove_node,
            self._deps.context,
            key,
            reason,
            caller(),
            unpin=request.unpin,
        )
        return node_pb2.RemoveNodeResponse(
            jobs_taken_back=removed.jobs, files_forgotten=removed.files
        )

    async def _change(self, request: _Request, wanted: Condition) -> Condition:
        key, reason = _checked(request)
        return await self._deps.runner.run(
            control_nodes.set_condition, self._deps.context, key, wanted, reason, caller()
        )


def _checked(request: _Request) -> tuple[NodeKey, str]:
    check = Checker()
    check.name("site", request.site)
    check.name("node", request.node)
    check.text("reason", request.reason, max_bytes=MAX_REASON_BYTES)
    if not request.reason.strip():
        check.add("reason", "is required: it tells others why the node was changed")
    check.done()
    return NodeKey(request.site, request.node), request.reason
