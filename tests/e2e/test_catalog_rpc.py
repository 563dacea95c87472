"""Another system talks to FileCatalog by RPC: what it may send, what is refused, what is measured.

One server serves nearly all tests, each about a node of its own: to start one takes longer than they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import (
    coverage_pb2,
    filecatalog_pb2,
    filecatalog_pb2_grpc,
    lookup_pb2,
    pins_pb2,
)
from pandawn_server.domain.catalog.inventory import CachedFile, inventory_digest
from tests.fixtures.catalog import make_files
from tests.fixtures.otlp import Collector
from tests.fixtures.rpc import reason_of
from tests.fixtures.server import StartServer, running_servers

TIMEOUT_S = 30.0
SITE, NODE, EPOCH = "T3", "wn01.example.org", 77
PINNED, BARE, STRANGER = "wn02.example.org", "wn03.example.org", "wn99.example.org"
EMPTY_SITE = "T3-EMPTY"
INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
EXISTS = grpc.StatusCode.ALREADY_EXISTS
# A varint field with a number that no message has.
UNKNOWN_FIELD = b"\xf8\x3f\x01"
UNKNOWN_NUMBER = 1023

Stub = filecatalog_pb2_grpc.FileCatalogStub


@pytest.fixture(scope="module")
def catalog() -> Iterator[Stub]:
    with running_servers() as start, start().channel() as channel:
        yield filecatalog_pb2_grpc.FileCatalogStub(channel)


def wire(*files: CachedFile) -> list[common_pb2.File]:
    return [
        common_pb2.File(
            lfn=f.lfn, scope=f.scope, guid=f.guid, size_bytes=f.size_bytes, version=f.version
        )
        for f in files
    ]


def refs(*files: CachedFile) -> list[common_pb2.FileRef]:
    return [common_pb2.FileRef(lfn=f.lfn, scope=f.scope, version=f.version) for f in files]


def refused(call: Callable[[], object], code: grpc.StatusCode, reason: str, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert (error.code(), reason_of(error)) == (code, reason)
    assert text in (error.details() or "")


def test_pre_placed_data_is_added_found_and_deleted_by_rpc(catalog: Stub) -> None:
    files = make_files(1, 2, 3)
    added = filecatalog_pb2.AddFilesRequest(site=SITE, node=NODE.upper(), files=wire(*files))
    reply = catalog.AddFiles(added, timeout=TIMEOUT_S)
    assert reply.result == filecatalog_pb2.DELTA_RESULT_APPLIED
    check = lookup_pb2.CheckFilesRequest(
        site=SITE, node=NODE, files=[*refs(*files[:1]), common_pb2.FileRef(guid=files[1].guid)]
    )
    presences = catalog.CheckFiles(check, timeout=TIMEOUT_S).presences
    assert [(p.present, p.size_bytes) for p in presences] == [(True, 1001), (True, 1002)]
    deleted = filecatalog_pb2.DeleteFilesRequest(site=SITE, node=NODE, files=refs(*files[:2]))
    assert catalog.DeleteFiles(deleted, timeout=TIMEOUT_S).deleted_count == 2
    cache = catalog.GetCache(
        filecatalog_pb2.GetCacheRequest(site=SITE, node=NODE), timeout=TIMEOUT_S
    ).cache
    assert (cache.file_count, cache.state.sequence) == (1, 0)
    assert cache.state.digest == inventory_digest(files[2:])
    request = lookup_pb2.ListNodeFilesRequest(site=SITE, node=NODE)
    (listed,) = catalog.ListNodeFiles(request, timeout=TIMEOUT_S).files
    assert listed.file.version == files[2].version


def test_sums_that_the_contract_does_not_hold_are_told_as_its_largest_number(
    catalog: Stub,
) -> None:
    largest = 2**63 - 1
    files = [CachedFile(f"f{number}", largest) for number in range(3)]
    for sequence, some in enumerate((files[:2], files[2:])):
        state = filecatalog_pb2.CacheState(epoch=EPOCH, sequence=sequence)
        header = filecatalog_pb2.InventoryHeader(site=SITE, node="wn07", state=state)
        inventory = filecatalog_pb2.ReportInventoryRequest(header=header, files=wire(*some))
        reply = catalog.ReportInventory(iter([inventory]), timeout=TIMEOUT_S)
        assert reply.drift_bytes == (largest if sequence else 0)
    added = filecatalog_pb2.AddFilesRequest(site=SITE, node="wn07", files=wire(*files))
    catalog.AddFiles(added, timeout=TIMEOUT_S)
    request = filecatalog_pb2.GetCacheRequest(site=SITE, node="wn07")
    assert catalog.GetCache(request, timeout=TIMEOUT_S).cache.total_bytes == largest
    covered = coverage_pb2.GetCoverageRequest(
        site=SITE, files=coverage_pb2.CoveredFiles(files=wire(*files))
    )
    assert catalog.GetCoverage(covered, timeout=TIMEOUT_S).total_bytes == largest


def test_pins_are_placed_and_listed_by_rpc(catalog: Stub) -> None:
    files = make_files(1, 2, 3)
    pin = pins_pb2.PinFilesRequest(site=SITE, node=PINNED, files=wire(*files))
    reply = catalog.PinFiles(pin, timeout=TIMEOUT_S)
    assert (reply.new_count, reply.pinned_count, reply.pinned_bytes) == (3, 3, 3006)
    # An inventory of a cache that has something else does not touch them.
    state = filecatalog_pb2.CacheState(epoch=EPOCH, sequence=1)
    header = filecatalog_pb2.InventoryHeader(site=SITE, node=PINNED, state=state)
    request = filecatalog_pb2.ReportInventoryRequest(header=header, files=wire(*make_files(9)))
    catalog.ReportInventory(iter([request]), timeout=TIMEOUT_S)
    page = catalog.ListNodeFiles(
        lookup_pb2.ListNodeFilesRequest(site=SITE, node=PINNED, page_size=3), timeout=TIMEOUT_S
    )
    assert [held.pinned for held in page.files] == [True, True, True]
    rest = catalog.ListNodeFiles(
        lookup_pb2.ListNodeFilesRequest(
            site=SITE, node=PINNED, page_size=3, page_token=page.next_page_token
        ),
        timeout=TIMEOUT_S,
    )
    assert [(held.file.lfn, held.pinned) for held in rest.files] == [(make_files(9)[0].lfn, False)]
    cache = catalog.GetCache(
        filecatalog_pb2.GetCacheRequest(site=SITE, node=PINNED), timeout=TIMEOUT_S
    ).cache
    assert (cache.file_count, cache.pinned_count, cache.pinned_bytes) == (1, 3, 3006)


def test_a_node_with_nothing_but_pins_has_no_state(catalog: Stub) -> None:
    pin = pins_pb2.PinFilesRequest(site=SITE, node=BARE, files=wire(*make_files(1)))
    catalog.PinFiles(pin, timeout=TIMEOUT_S)
    request = filecatalog_pb2.GetCacheRequest(site=SITE, node=BARE)
    cache = catalog.GetCache(request, timeout=TIMEOUT_S).cache
    assert not cache.HasField("state")
    assert cache.pinned_count == 1


def test_empty_lists_are_errors(catalog: Stub) -> None:
    fc, site, node = filecatalog_pb2, SITE, NODE
    calls: list[Callable[[], object]] = [
        lambda: catalog.AddFiles(fc.AddFilesRequest(site=site, node=node)),
        lambda: catalog.DeleteFiles(fc.DeleteFilesRequest(site=site, node=node)),
        lambda: catalog.CheckFiles(lookup_pb2.CheckFilesRequest(site=site, node=node)),
        lambda: catalog.LocateFiles(lookup_pb2.LocateFilesRequest(site=site)),
        lambda: catalog.PinFiles(pins_pb2.PinFilesRequest(site=site, node=node)),
        lambda: catalog.UnpinFiles(
            pins_pb2.UnpinFilesRequest(site=site, node=node, files=pins_pb2.PinnedFiles())
        ),
        lambda: catalog.GetCoverage(
            coverage_pb2.GetCoverageRequest(site=site, files=coverage_pb2.CoveredFiles())
        ),
    ]
    for call in calls:
        refused(call, INVALID, "INVALID_REQUEST", "files: must not be empty")


def test_where_one_of_several_is_meant_one_must_be_given(catalog: Stub) -> None:
    fc, site, node = filecatalog_pb2, SITE, NODE
    unpin = pins_pb2.UnpinFilesRequest(site=site, node=node)
    refused(lambda: catalog.UnpinFiles(unpin), INVALID, "INVALID_REQUEST", "files or all")
    cover = coverage_pb2.GetCoverageRequest(site=site)
    refused(lambda: catalog.GetCoverage(cover), INVALID, "INVALID_REQUEST", "task_id or files")
    flush = fc.FlushCacheRequest(site=site, node=node)
    refused(lambda: catalog.FlushCache(flush), INVALID, "INVALID_REQUEST", "epoch or request_id")
    for odd, told in ({"epoch": 0}, "epoch: must not be 0"), ({"request_id": ""}, "must be set"):
        flush = fc.FlushCacheRequest(site=site, node=node, **odd)
        refused(lambda: catalog.FlushCache(flush), INVALID, "INVALID_REQUEST", told)  # noqa: B023
    check = lookup_pb2.CheckFilesRequest(
        site=site, node=node, files=[common_pb2.FileRef(scope="s")]
    )
    refused(lambda: catalog.CheckFiles(check), INVALID, "INVALID_REQUEST", "either lfn or guid")


def test_a_flush_that_is_repeated_is_answered_as_before_and_forgets_nothing_more(
    catalog: Stub,
) -> None:
    fc, node = filecatalog_pb2, "flushed"

    def add(name: str) -> None:
        files = [common_pb2.File(lfn=name, size_bytes=1)]
        catalog.AddFiles(fc.AddFilesRequest(site=SITE, node=node, files=files), timeout=TIMEOUT_S)

    def flush(**by: Any) -> filecatalog_pb2.FlushCacheResponse:
        request = fc.FlushCacheRequest(site=SITE, node=node, **by)
        return catalog.FlushCache(request, timeout=TIMEOUT_S)

    add("one")
    first = flush(request_id="flush-1")
    assert first.forgotten_count == 1
    add("two")
    assert flush(request_id="flush-1") == first
    begun = flush(epoch=77)
    assert (begun.forgotten_count, begun.epoch) == (1, 77)
    add("three")
    assert flush(epoch=77).forgotten_count == 0
    assert (
        len(catalog.ListNodeFiles(lookup_pb2.ListNodeFilesRequest(site=SITE, node=node)).files) == 1
    )
    other = fc.FlushCacheRequest(site=SITE, node=NODE, request_id="flush-1")
    refused(lambda: catalog.FlushCache(other), EXISTS, "REQUEST_ID_REUSED", "flush-1")


def test_unknown_nodes_are_errors(catalog: Stub) -> None:
    fc, site, node, asked = filecatalog_pb2, SITE, STRANGER, refs(*make_files(1))
    calls: list[Callable[[], object]] = [
        lambda: catalog.DeleteFiles(fc.DeleteFilesRequest(site=site, node=node, files=asked)),
        lambda: catalog.CheckFiles(lookup_pb2.CheckFilesRequest(site=site, node=node, files=asked)),
        lambda: catalog.FlushCache(fc.FlushCacheRequest(site=site, node=node, request_id="r")),
        lambda: catalog.ListNodeFiles(lookup_pb2.ListNodeFilesRequest(site=site, node=node)),
        lambda: catalog.GetCache(fc.GetCacheRequest(site=site, node=node)),
        lambda: catalog.UnpinFiles(
            pins_pb2.UnpinFilesRequest(site=site, node=node, all=pins_pb2.AllPins())
        ),
    ]
    for call in calls:
        refused(call, MISSING, "NODE_NOT_FOUND", node)


def test_unknown_sites_are_errors(catalog: Stub) -> None:
    files = make_files(1)
    locate = lookup_pb2.LocateFilesRequest(site=EMPTY_SITE, files=refs(*files))
    refused(lambda: catalog.LocateFiles(locate), MISSING, "SITE_NOT_FOUND", EMPTY_SITE)
    cover = coverage_pb2.GetCoverageRequest(
        site=EMPTY_SITE, files=coverage_pb2.CoveredFiles(files=wire(*files))
    )
    refused(lambda: catalog.GetCoverage(cover), MISSING, "SITE_NOT_FOUND", EMPTY_SITE)


def test_unknown_fields_are_errors_that_name_them(catalog: Stub) -> None:
    file = wire(*make_files(1))[0]
    odd_file = common_pb2.File.FromString(file.SerializeToString() + UNKNOWN_FIELD)
    request = filecatalog_pb2.AddFilesRequest(site=SITE, node=NODE, files=[file, odd_file])
    told = f"files[1] field {UNKNOWN_NUMBER}: is unknown to this server"
    refused(lambda: catalog.AddFiles(request), INVALID, "INVALID_REQUEST", told)

    flush = filecatalog_pb2.FlushCacheRequest(site=SITE, node=NODE, epoch=1)
    odd_flush = filecatalog_pb2.FlushCacheRequest.FromString(
        flush.SerializeToString() + UNKNOWN_FIELD
    )
    told = f"field {UNKNOWN_NUMBER}: is unknown to this server"
    refused(lambda: catalog.FlushCache(odd_flush), INVALID, "INVALID_REQUEST", told)

    inventory = filecatalog_pb2.ReportInventoryRequest(files=[odd_file])
    refused(
        lambda: catalog.ReportInventory(iter([inventory])),
        INVALID,
        "INVALID_REQUEST",
        f"files[0] field {UNKNOWN_NUMBER}",
    )


def sum_of(collector: Collector, name: str) -> float | None:
    metric = collector.metrics().get(name)
    if metric is None:
        return None
    return sum(point.sum for point in metric.histogram.data_points)


def test_drift_is_measured_in_files_and_bytes_and_healed_by_one_exchange(
    start_server: StartServer, collector: Collector
) -> None:
    server = start_server(otlp_endpoint=collector.endpoint)
    truth = make_files(1, 2, 3)
    with server.channel() as channel:
        catalog = filecatalog_pb2_grpc.FileCatalogStub(channel)
        first = filecatalog_pb2.AddFilesRequest(
            site=SITE, node=NODE, epoch=EPOCH, sequence=1, files=wire(*make_files(1, 4))
        )
        catalog.AddFiles(first, timeout=TIMEOUT_S)
        # Deltas 2 and 3 got lost: 2 and 3 are lacking, 4 is there wrongly.
        late = filecatalog_pb2.AddFilesRequest(
            site=SITE, node=NODE, epoch=EPOCH, sequence=4, files=wire(*make_files(3))
        )
        reply = catalog.AddFiles(late, timeout=TIMEOUT_S)
        assert reply.result == filecatalog_pb2.DELTA_RESULT_INVENTORY_REQUESTED
        header = filecatalog_pb2.InventoryHeader(
            site=SITE, node=NODE, state=filecatalog_pb2.CacheState(epoch=EPOCH, sequence=4)
        )
        request = filecatalog_pb2.ReportInventoryRequest(header=header, files=wire(*truth))
        healed = catalog.ReportInventory(iter([request]), timeout=TIMEOUT_S)
        assert (healed.drift_count, healed.drift_bytes) == (3, 1002 + 1003 + 1004)
        again = catalog.ReportInventory(iter([request]), timeout=TIMEOUT_S)
        assert (again.drift_count, again.drift_bytes) == (0, 0)
    collector.wait_for(
        lambda: sum_of(collector, "pandawn.catalog_drift_files") == 3, "drift in files"
    )
    collector.wait_for(
        lambda: sum_of(collector, "pandawn.catalog_drift_bytes") == 3009, "drift in bytes"
    )
