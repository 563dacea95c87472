"""A real server and a real pilot while memcached dies and comes back empty: slower, and nothing else."""

from __future__ import annotations

from pathlib import Path

import grpc

from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, pins_pb2
from tests.fixtures.memcached import MemcachedFactory
from tests.fixtures.pilots import StartPilot, wait_until
from tests.fixtures.server import StartServer
from tests.fixtures.tier3 import Tier3

NODE = "wn00"
READ = 'cat "$@" > /dev/null'


def test_jobs_run_without_memcached_and_nodes_fill_it_again(
    start_server: StartServer,
    memcached_factory: MemcachedFactory,
    start_pilot: StartPilot,
    tmp_path: Path,
) -> None:
    memcached = memcached_factory.start()
    tier3 = Tier3(start_server(catalog=memcached.url), tmp_path)
    inputs = tier3.make_inputs(2, size=2000)
    names = sorted(item.file.lfn for item in inputs)
    pinned = common_pb2.File(lfn="placed.by.hand", size_bytes=7)
    tier3.catalog.PinFiles(pins_pb2.PinFilesRequest(site=tier3.site, node=NODE, files=[pinned]))
    start_pilot(tier3)
    tier3.finish(tier3.submit(READ, inputs, files_per_job=2))
    wait_until(lambda: tier3.cached(NODE) == [*names, "placed.by.hand"])

    memcached.kill()
    (blind,) = tier3.finish(tier3.submit(READ, inputs, files_per_job=2))
    # What the catalog no longer tells, the node still has.
    assert blind.bytes_from_cache == 4000
    assert _sums(tier3) is None

    memcached.start()

    # The server leaves a lost memcached alone for some seconds.
    wait_until(lambda: _sums(tier3) == (2, 1))
    (local,) = tier3.finish(tier3.submit(READ, inputs, files_per_job=2))
    match = tier3.last_attempt(local.job_id).job_match
    assert (match.locality, match.local_bytes) == (common_pb2.LOCALITY_KNOWN, 4000)

    # The server's turn: what it knew of pins comes from the database.
    tier3.server.restart()
    wait_until(lambda: _sums(tier3) == (2, 1))
    tier3.close()


def _sums(tier3: Tier3) -> tuple[int, int] | None:
    """Files that the node reports and that are pinned; None while the catalog or the server does not answer."""
    request = filecatalog_pb2.GetCacheRequest(site=tier3.site, node=NODE)
    try:
        cache = tier3.catalog.GetCache(request).cache
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return None
    return cache.file_count, cache.pinned_count
