"""The FileCatalog service: reports of caches, pins, and queries."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import (
    coverage_pb2,
    filecatalog_pb2,
    filecatalog_pb2_grpc,
    lookup_pb2,
    pins_pb2,
    session_pb2,
)
from pandawn_server.domain.access.audit import About
from pandawn_server.domain.access.pilot_rights import check_cache, check_may_list
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    Delta,
    DeltaOutcome,
    FileRef,
    Inventory,
    NodeKey,
)
from pandawn_server.domain.errors import ExhaustedError
from pandawn_server.telemetry.names import CATALOG_DRIFT_BYTES, CATALOG_DRIFT_FILES
from pandawn_server.usecases.access.open_session import open_session
from pandawn_server.usecases.catalog import coverage, files, pins
from pandawn_server.wire.auth.host import host_facts
from pandawn_server.wire.catalog.convert import (
    to_cache,
    to_coverage,
    to_locations,
    to_node_file,
    to_pins,
)
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.edge.auditing import record_subject
from pandawn_server.wire.edge.batcher import Batcher
from pandawn_server.wire.edge.bounds import give_way
from pandawn_server.wire.edge.caller import caller
from pandawn_server.wire.edge.enums import DELTA_RESULT
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.page_token import decode_page_token, encode_page_token
from pandawn_server.wire.edge.pages import page_of
from pandawn_server.wire.edge.validation import DEFAULT_PAGE_SIZE, Checker
from pandawn_server.wire.edge.values import (
    from_cached_file,
    from_ref,
    to_duration,
    to_sum,
    to_timestamp,
)

MAX_FILES = 10_000
"""Maximum files in one message."""

MAX_LOCATE = 1000
"""Maximum files in one `LocateFiles`: each is looked up on all nodes of the site."""

MAX_COVERED = 100_000
"""Maximum files in one `GetCoverage`: as many as the largest task has inputs."""

MAX_INVENTORY_FILES = 1_000_000
"""Maximum files in one inventory, which is kept in memory while it arrives."""


class FileCatalogServicer(filecatalog_pb2_grpc.FileCatalogServicer):
    """See `pandawn/filecatalog/v1/filecatalog.proto`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        make = deps.batchers.make
        self._write: Batcher[Delta, DeltaOutcome] = make(
            "WriteCatalog", lambda deltas: files.write_deltas(deps.context, deltas)
        )
        self._check: Batcher[tuple[NodeKey, list[FileRef]], list[int | None]] = make(
            "CheckFiles", lambda queries: files.check_files(deps.context, queries)
        )

    async def OpenSession(
        self, request: session_pb2.OpenSessionRequest, _context: ServicerContext
    ) -> session_pb2.OpenSessionResponse:
        """Opens a session for a tool of a node."""
        check = Checker()
        check.queue("queue", request.queue)
        node = check.host("node", request.node)
        check.text("node_key", request.node_key, max_bytes=255)
        check.done()
        by = caller()
        facts = await host_facts(self._deps, request.queue, by)
        opened = await self._deps.runner.run(
            open_session, self._deps.context, request.queue, node, by, facts, request.node_key
        )
        return session_pb2.OpenSessionResponse(
            session_token=opened.token,
            expire_time=to_timestamp(opened.expire_time),
            session_life=to_duration(self._deps.context.sessions.life),
            site=opened.site,
        )

    async def AddFiles(
        self, request: filecatalog_pb2.AddFilesRequest, _context: ServicerContext
    ) -> filecatalog_pb2.AddFilesResponse:
        """Adds files to a cache."""
        check = Checker()
        key = _delta_key(check, request)
        files = _files(check, request.files, MAX_FILES)
        check.done()
        check_cache(caller(), key)
        delta = Delta(key, request.epoch, request.sequence, added=tuple(files))
        outcome: DeltaOutcome = await self._write.submit(delta)
        return filecatalog_pb2.AddFilesResponse(result=DELTA_RESULT.to_wire(outcome.result))

    async def DeleteFiles(
        self, request: filecatalog_pb2.DeleteFilesRequest, _context: ServicerContext
    ) -> filecatalog_pb2.DeleteFilesResponse:
        """Deletes files from a cache."""
        check = Checker()
        key = _delta_key(check, request)
        refs = _refs(check, request.files, MAX_FILES)
        check.done()
        check_cache(caller(), key)
        delta = Delta(key, request.epoch, request.sequence, deleted=tuple(refs))
        outcome: DeltaOutcome = await self._write.submit(delta)
        return filecatalog_pb2.DeleteFilesResponse(
            result=DELTA_RESULT.to_wire(outcome.result), deleted_count=outcome.deleted_count
        )

    async def FlushCache(
        self, request: filecatalog_pb2.FlushCacheRequest, _context: ServicerContext
    ) -> filecatalog_pb2.FlushCacheResponse:
        """Empties a cache."""
        check = Checker()
        key = _key(check, request.site, request.node)
        check.chosen(request, "cause", "epoch or request_id")
        if request.HasField("epoch"):
            check.require(request.epoch != 0, "epoch", "must not be 0")
        elif request.HasField("request_id"):
            check.identifier("request_id", request.request_id)
        check.done()
        by = caller()
        check_cache(by, key)
        run, here = self._deps.runner.run, self._deps.context
        if request.epoch:
            epoch = request.epoch
            forgotten = await run(files.begin_epoch, here, key, epoch)
        else:
            forgotten, epoch = await run(files.flush_cache, here, key, request.request_id, by)
        return filecatalog_pb2.FlushCacheResponse(forgotten_count=forgotten, epoch=epoch)

    async def ReportInventory(
        self,
        request_iterator: AsyncIterator[filecatalog_pb2.ReportInventoryRequest],
        _context: ServicerContext,
    ) -> filecatalog_pb2.ReportInventoryResponse:
        """Replaces the catalog's files of a cache; records how wrong they were."""
        header: filecatalog_pb2.InventoryHeader | None = None
        held: list[CachedFile] = []
        async for request in request_iterator:
            begin_s = time.monotonic()
            check = Checker()
            if request.HasField("header"):
                check.require(header is None, "header", "must be in the first message only")
                header = request.header
                # Checked here so that the rest is not read if the node is not the caller's.
                check_cache(caller(), _key(check, header.site, header.node))
            check.require(header is not None, "header", "must be in the first message")
            check.count("files", request.files, 0, MAX_FILES)
            for position, file in enumerate(request.files, start=len(held)):
                check.file(("files", position), file)
            check.done()
            held += map(from_cached_file, request.files)
            if len(held) > MAX_INVENTORY_FILES:
                raise ExhaustedError(
                    "INVENTORY_TOO_LARGE",
                    f"the inventory has more than {MAX_INVENTORY_FILES:,} files, the maximum for a cache",
                )
            await give_way(time.monotonic() - begin_s)
        check = Checker()
        if header is None:
            header = filecatalog_pb2.InventoryHeader()
            check.add("header", "must be in the first message")
        key = _key(check, header.site, header.node)
        check.require(header.state.epoch != 0, "header.state.epoch", "must not be 0")
        check.size("header.state.sequence", header.state.sequence)
        check.done()
        check_cache(caller(), key)
        record_subject(About(site=key.site, node=key.node))
        inventory = Inventory(key, header.state.epoch, header.state.sequence, tuple(held))
        drift = await self._deps.runner.run(files.replace_inventory, self._deps.context, inventory)
        self._deps.telemetry.record(CATALOG_DRIFT_FILES, drift.files)
        self._deps.telemetry.record(CATALOG_DRIFT_BYTES, drift.size_bytes)
        return filecatalog_pb2.ReportInventoryResponse(
            file_count=len(held),
            drift_count=drift.files,
            drift_bytes=to_sum(drift.size_bytes),
        )

    async def PinFiles(
        self, request: pins_pb2.PinFilesRequest, _context: ServicerContext
    ) -> pins_pb2.PinFilesResponse:
        """Pins files on a node."""
        check = Checker()
        key = _key(check, request.site, request.node)
        files = _files(check, request.files, MAX_FILES)
        check.done()
        check_cache(caller(), key)
        pinned = await self._deps.runner.run(pins.pin_files, self._deps.context, key, files)
        return pins_pb2.PinFilesResponse(
            new_count=pinned.changed,
            pinned_count=pinned.file_count,
            pinned_bytes=pinned.total_bytes,
        )

    async def UnpinFiles(
        self, request: pins_pb2.UnpinFilesRequest, _context: ServicerContext
    ) -> pins_pb2.UnpinFilesResponse:
        """Removes pins."""
        check = Checker()
        key = _key(check, request.site, request.node)
        refs: list[FileRef] | None = None
        check.chosen(request, "what", "files or all")
        if request.HasField("files"):
            refs = _refs(check, request.files.files, MAX_FILES, "files.files")
        check.done()
        check_cache(caller(), key)
        left = await self._deps.runner.run(pins.unpin_files, self._deps.context, key, refs)
        return pins_pb2.UnpinFilesResponse(removed_count=left.changed, pinned_count=left.file_count)

    async def ListPins(
        self, request: pins_pb2.ListPinsRequest, _context: ServicerContext
    ) -> pins_pb2.ListPinsResponse:
        """Lists nodes with pinned files."""
        check = Checker()
        check.site("site", request.site, required=False)
        size = check.page_size(request.page_size)
        check.done()
        filters = (request.site,)
        after = decode_page_token(request.page_token, "ListPins", filters, (str, str))
        found = await self._deps.runner.run(
            pins.list_pins,
            self._deps.context,
            NodeKey(str(after[0]), str(after[1])) if after else None,
            size + 1,
            request.site,
        )
        page, ends = page_of(found, size, to_pins)
        token = ""
        for last, _ in ends:
            token = encode_page_token("ListPins", filters, last.key)
        return pins_pb2.ListPinsResponse(pins=page, next_page_token=token)

    async def GetCoverage(
        self, request: coverage_pb2.GetCoverageRequest, _context: ServicerContext
    ) -> coverage_pb2.GetCoverageResponse:
        """Returns how much of a set of files the nodes of a site hold."""
        check = Checker()
        of_task = request.HasField("task_id")
        check.site("site", request.site, required=not of_task)
        check.range("max_nodes", request.max_nodes, 0, MAX_FILES)
        check.chosen(request, "what", "task_id or files")
        files: list[CachedFile] = []
        if of_task:
            check.number("task_id", request.task_id)
        elif request.HasField("files"):
            files = _files(check, request.files.files, MAX_COVERED, "files.files")
        check.done()
        run, here = self._deps.runner.run, self._deps.context
        if of_task:
            found = await run(coverage.cover_task, here, request.site, request.task_id, caller())
        else:
            found = await run(coverage.cover_files, here, request.site, files)
        return to_coverage(found, request.max_nodes or DEFAULT_PAGE_SIZE)

    async def CheckFiles(
        self, request: lookup_pb2.CheckFilesRequest, _context: ServicerContext
    ) -> lookup_pb2.CheckFilesResponse:
        """Returns which of the files a cache holds."""
        check = Checker()
        key = _key(check, request.site, request.node)
        refs = _refs(check, request.files, MAX_FILES)
        check.done()
        sizes: list[int | None] = await self._check.submit((key, refs))
        return lookup_pb2.CheckFilesResponse(
            presences=[
                lookup_pb2.FilePresence(present=size is not None, size_bytes=size or 0)
                for size in sizes
            ]
        )

    async def LocateFiles(
        self, request: lookup_pb2.LocateFilesRequest, _context: ServicerContext
    ) -> lookup_pb2.LocateFilesResponse:
        """Returns which nodes hold the files."""
        check = Checker()
        check.site("site", request.site)
        refs = _refs(check, request.files, MAX_LOCATE)
        check.done()
        found = await self._deps.runner.run(
            files.locate_files, self._deps.context, request.site, refs
        )
        return to_locations(request.files, found)

    async def ListNodeFiles(
        self, request: lookup_pb2.ListNodeFilesRequest, _context: ServicerContext
    ) -> lookup_pb2.ListNodeFilesResponse:
        """Lists the files of a cache."""
        check = Checker()
        key = _key(check, request.site, request.node)
        size = check.page_size(request.page_size, default=1000, maximum=MAX_FILES)
        check.done()
        check_may_list(caller(), key)
        filters = (key.site, key.node, request.pinned_only)
        after = decode_page_token(
            request.page_token, "ListNodeFiles", filters, (str, str, str, int)
        )
        found = await self._deps.runner.run(
            partial(files.list_files, pinned_only=request.pinned_only),
            self._deps.context,
            key,
            (str(after[0]), str(after[1]), str(after[2]), int(after[3])) if after else None,
            size + 1,
        )
        page, ends = page_of(found, size, to_node_file)
        token = ""
        for last, _ in ends:
            token = encode_page_token("ListNodeFiles", filters, last.file_id)
        return lookup_pb2.ListNodeFilesResponse(files=page, next_page_token=token)

    async def GetCache(
        self, request: filecatalog_pb2.GetCacheRequest, _context: ServicerContext
    ) -> filecatalog_pb2.GetCacheResponse:
        """Returns the state of a cache."""
        check = Checker()
        key = _key(check, request.site, request.node)
        check.done()
        summary = await self._deps.runner.run(files.get_cache, self._deps.context, key)
        return filecatalog_pb2.GetCacheResponse(cache=to_cache(summary))


def _key(check: Checker, site: str, node: str) -> NodeKey:
    check.site("site", site)
    return NodeKey(site, check.host("node", node))


def _delta_key(
    check: Checker,
    request: filecatalog_pb2.AddFilesRequest | filecatalog_pb2.DeleteFilesRequest,
) -> NodeKey:
    if request.epoch:
        check.number("sequence", request.sequence)
    else:
        check.require(not request.sequence, "sequence", "must be 0 without an epoch")
    return _key(check, request.site, request.node)


def _files(
    check: Checker, files: Sequence[common_pb2.File], most: int, field: str = "files"
) -> list[CachedFile]:
    check.count(field, files, 1, most)
    for position, file in enumerate(files):
        check.file((field, position), file)
    return list(map(from_cached_file, files))


def _refs(
    check: Checker, files: Sequence[common_pb2.FileRef], most: int, field: str = "files"
) -> list[FileRef]:
    check.count(field, files, 1, most)
    for position, file in enumerate(files):
        check.file_ref((field, position), file)
    return [from_ref(file) for file in files]
