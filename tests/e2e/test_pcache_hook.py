"""The installed `pandawn-pcache-hook` against a real server, as a site's script calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from pandawn.common.v1.common_pb2 import File
from pandawn.filecatalog.v1 import filecatalog_pb2 as wire
from pandawn.filecatalog.v1 import lookup_pb2
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
from tests.fixtures.memcached import MemcachedFactory, pool_url
from tests.fixtures.server import PandawnServer, StartServer

PROGRAM = Path(sys.executable).with_name("pandawn-pcache-hook")
SITE, NODE = "TIER3", "wn01.example.org"


def hook(
    server: PandawnServer, *arguments: str, stdin: str = "", locale: str = "C.UTF-8"
) -> subprocess.CompletedProcess[bytes]:
    command, *others = arguments
    return subprocess.run(
        [PROGRAM, command, "--server", server.address, "--site", SITE, "--node", NODE, *others],
        input=stdin.encode(),
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "LC_ALL": locale},
    )


def files(server: PandawnServer) -> list[File]:
    with server.channel() as channel:
        request = lookup_pb2.ListNodeFilesRequest(site=SITE, node=NODE)
        return [held.file for held in FileCatalogStub(channel).ListNodeFiles(request).files]


def test_changes_reach_the_catalog(server: PandawnServer) -> None:
    listed = [
        {"lfn": "dane_żółw.root", "size_bytes": 7, "scope": "user.anna"},
        {"lfn": "b.root", "size_bytes": 8, "guid": "ABCDEF00-0000-4000-8000-000000000001"},
    ]
    stdin = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in listed)
    # In the locale of a batch job that sets none.
    done = hook(server, "add", "a.root=5", "--file", "-", stdin=stdin, locale="C")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [(f.scope, f.lfn, f.size_bytes) for f in files(server)] == [
        ("", "a.root", 5),
        ("", "b.root", 8),
        ("user.anna", "dane_żółw.root", 7),
    ]

    done = hook(server, "delete", "a.root", "never.seen")
    assert done.stdout == b"1 of 2 files deleted from the catalog for wn01.example.org at TIER3\n"
    # GUIDs are compared without regard to case.
    done = hook(server, "delete", "--guid", "abcdef00-0000-4000-8000-000000000001")
    assert done.stdout.startswith(b"1 of 1 file deleted")
    assert [f.lfn for f in files(server)] == ["dane_żółw.root"]

    done = hook(server, "flush")
    assert (done.returncode, done.stdout) == (0, b"1 file of wn01.example.org at TIER3 forgotten\n")
    assert files(server) == []


def test_a_node_with_a_new_epoch_is_known_and_empty(embedded_server: PandawnServer) -> None:
    assert hook(embedded_server, "add", "a.root=5").returncode == 0
    with embedded_server.channel() as channel:
        stub = FileCatalogStub(channel)
        place = wire.GetCacheRequest(site=SITE, node=NODE)
        before = stub.GetCache(place).cache.state
        assert hook(embedded_server, "flush").returncode == 0
        after = stub.GetCache(place).cache.state
    assert before.epoch != after.epoch
    assert (after.sequence, after.digest) == (0, 0)


def test_deleting_from_a_node_nobody_knows_is_refused(embedded_server: PandawnServer) -> None:
    done = hook(embedded_server, "delete", "a.root")
    assert done.returncode == 3
    assert done.stderr.startswith(b"pandawn-pcache-hook: NODE_NOT_FOUND: ")
    assert NODE.encode() in done.stderr


@pytest.mark.parametrize("name", ["with\nnewline=1", "x" * 300 + "=1"], ids=["control", "long"])
def test_a_name_that_the_contract_forbids_is_refused(
    embedded_server: PandawnServer, name: str
) -> None:
    done = hook(embedded_server, "add", name)
    assert done.returncode == 3
    assert done.stderr.startswith(b"pandawn-pcache-hook: INVALID_REQUEST: ")
    assert b"files[0].lfn" in done.stderr
    with pytest.raises(grpc.RpcError, match="knows no cache"):
        files(embedded_server)


def test_a_catalog_that_is_away_ends_with_4_and_names_the_memcached(
    start_server: StartServer, memcached_factory: MemcachedFactory
) -> None:
    memcached = memcached_factory.start()
    server = start_server(catalog=pool_url([memcached]))
    memcached.stop()
    done = hook(server, "add", "a.root=5", "--timeout", "1")
    assert done.returncode == 4
    assert done.stderr.startswith(b"pandawn-pcache-hook: CATALOG_UNAVAILABLE: ")
    assert memcached.address.encode() in done.stderr

    memcached.start()
    # The server leaves a lost memcached alone for a few seconds; the hook's patience is longer.
    assert hook(server, "add", "a.root=5").returncode == 0
    assert [f.lfn for f in files(server)] == ["a.root"]


def test_a_server_that_is_away_ends_with_4(embedded_server: PandawnServer) -> None:
    embedded_server.kill9()
    done = hook(embedded_server, "flush", "--timeout", "0.5")
    assert done.returncode == 4
    assert done.stderr.startswith(b"pandawn-pcache-hook: UNAVAILABLE: ")
    assert embedded_server.address.encode() in done.stderr
