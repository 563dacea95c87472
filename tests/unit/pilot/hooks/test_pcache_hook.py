"""`pandawn-pcache-hook` against a scripted server: what it sends, retries, refuses and ends with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pandawn.common.v1.common_pb2 import File, FileRef
from pandawn.filecatalog.v1 import filecatalog_pb2 as wire
from pandawn_pilot.hooks.pcache_hook import main
from tests.fixtures.ports import LOOPBACK


class ScriptedCatalog:
    """The calls that change the catalog, done after as many failures as it is told to have."""

    def __init__(self) -> None:
        self.added: list[wire.AddFilesRequest] = []
        self.deleted: list[wire.DeleteFilesRequest] = []
        self.flushed: list[wire.FlushCacheRequest] = []
        self.failures: list[tuple[grpc.StatusCode, str, str]] = []
        self.address = ""

    def add(
        self, request: wire.AddFilesRequest, context: grpc.ServicerContext
    ) -> wire.AddFilesResponse:
        self._fail(context)
        self.added.append(request)
        return wire.AddFilesResponse(result=wire.DELTA_RESULT_APPLIED)

    def delete(
        self, request: wire.DeleteFilesRequest, context: grpc.ServicerContext
    ) -> wire.DeleteFilesResponse:
        self._fail(context)
        self.deleted.append(request)
        return wire.DeleteFilesResponse(deleted_count=len(request.files) - 1)

    def flush(
        self, request: wire.FlushCacheRequest, context: grpc.ServicerContext
    ) -> wire.FlushCacheResponse:
        self.flushed.append(request)
        self._fail(context)
        return wire.FlushCacheResponse(forgotten_count=1, epoch=request.epoch)

    def _fail(self, context: grpc.ServicerContext) -> None:
        if self.failures:
            code, reason, text = self.failures.pop(0)
            context.set_trailing_metadata((("pandawn-reason", reason),))
            context.abort(code, text)


@pytest.fixture
def catalog() -> Iterator[ScriptedCatalog]:
    """A server of the catalog alone."""
    servicer = ScriptedCatalog()
    server = grpc.server(ThreadPoolExecutor(2))
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "AddFiles": grpc.unary_unary_rpc_method_handler(
            servicer.add,
            wire.AddFilesRequest.FromString,
            wire.AddFilesResponse.SerializeToString,
        ),
        "DeleteFiles": grpc.unary_unary_rpc_method_handler(
            servicer.delete,
            wire.DeleteFilesRequest.FromString,
            wire.DeleteFilesResponse.SerializeToString,
        ),
        "FlushCache": grpc.unary_unary_rpc_method_handler(
            servicer.flush,
            wire.FlushCacheRequest.FromString,
            wire.FlushCacheResponse.SerializeToString,
        ),
    }
    name = wire.DESCRIPTOR.services_by_name["FileCatalog"].full_name
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
    servicer.address = f"{LOOPBACK}:{server.add_insecure_port(f'{LOOPBACK}:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


@contextmanager
def standard_input(path: Path) -> Iterator[None]:
    """Lets descriptor 0 read a file: the command reads bytes from there, not from sys.stdin."""
    saved = os.dup(0)
    with path.open("rb") as source:
        os.dup2(source.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def run(catalog: ScriptedCatalog, command: str, *arguments: str) -> int:
    place = ["--server", catalog.address, "--site", "TIER3", "--node", "WN01.example.org."]
    return main([command, *place, *arguments])


def test_add_sends_files_without_an_epoch(
    catalog: ScriptedCatalog, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(catalog, "add", "--scope", "user.anna", "a.root=5", "odd=name=0") == 0
    assert catalog.added == [
        wire.AddFilesRequest(
            site="TIER3",
            node="wn01.example.org",
            files=[
                File(lfn="a.root", size_bytes=5, scope="user.anna"),
                File(lfn="odd=name", size_bytes=0, scope="user.anna"),
            ],
        )
    ]
    said = capsys.readouterr()
    assert said.out == "2 files, 5 B, added to the catalog for wn01.example.org at TIER3\n"
    assert said.err == ""


def test_the_guid_of_a_single_file_can_be_given(catalog: ScriptedCatalog) -> None:
    assert run(catalog, "add", "a.root=5", "--guid", "ABC") == 0
    assert catalog.added[0].files[0] == File(lfn="a.root", size_bytes=5, guid="ABC")


LISTED = [
    {"lfn": "żółw.root", "size_bytes": 7},
    {"lfn": "b", "size_bytes": "8", "scope": "s", "guid": "g"},
]


@pytest.mark.parametrize("from_standard_input", [False, True])
def test_files_may_come_from_a_list(
    catalog: ScriptedCatalog, tmp_path: Path, from_standard_input: bool
) -> None:
    path = tmp_path / "list"
    lines = "\n\n".join(json.dumps(entry, ensure_ascii=False) for entry in LISTED)
    path.write_text(lines, encoding="utf-8")
    if from_standard_input:
        with standard_input(path):
            status = run(catalog, "add", "--scope", "d", "--file", "-", "c=1")
    else:
        status = run(catalog, "add", "--scope", "d", "--file", str(path), "c=1")
    assert status == 0
    # In the JSON of protobuf a long number may be a string.
    assert list(catalog.added[0].files) == [
        File(lfn="c", size_bytes=1, scope="d"),
        File(lfn="żółw.root", size_bytes=7, scope="d"),
        File(lfn="b", size_bytes=8, scope="s", guid="g"),
    ]


def test_delete_names_files_by_lfn_or_guid(
    catalog: ScriptedCatalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list"
    path.write_text('{"guid": "G2"}\n{"lfn": "c", "scope": "t"}\n')

    assert run(catalog, "delete", "--scope", "s", "a", "b", "--file", str(path)) == 0
    assert run(catalog, "delete", "--guid", "G1", "G3") == 0
    assert [list(request.files) for request in catalog.deleted] == [
        [
            FileRef(lfn="a", scope="s"),
            FileRef(lfn="b", scope="s"),
            FileRef(guid="G2"),
            FileRef(lfn="c", scope="t"),
        ],
        [FileRef(guid="G1"), FileRef(guid="G3")],
    ]
    assert capsys.readouterr().out.splitlines() == [
        "3 of 4 files deleted from the catalog for wn01.example.org at TIER3",
        "1 of 2 files deleted from the catalog for wn01.example.org at TIER3",
    ]


def test_long_lists_go_in_messages_that_the_server_takes(
    catalog: ScriptedCatalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list"
    path.write_text("".join(f'{{"lfn": "f{n}", "size_bytes": 1}}\n' for n in range(25_000)))
    assert run(catalog, "add", "--file", str(path)) == 0
    assert [len(request.files) for request in catalog.added] == [10_000, 10_000, 5000]
    assert capsys.readouterr().out.startswith("25000 files, 24.4 KiB, added")


def test_flush_begins_an_epoch_and_its_retry_the_same(
    catalog: ScriptedCatalog, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.failures = [(grpc.StatusCode.UNAVAILABLE, "CATALOG_UNAVAILABLE", "away")]
    assert run(catalog, "flush") == 0
    first, second = catalog.flushed
    assert first == second
    assert first.epoch != 0
    assert capsys.readouterr().out == "1 file of wn01.example.org at TIER3 forgotten\n"

    assert run(catalog, "flush") == 0
    assert catalog.flushed[-1].epoch != first.epoch


def test_a_failure_for_a_time_is_tried_again(catalog: ScriptedCatalog) -> None:
    catalog.failures = [(grpc.StatusCode.UNAVAILABLE, "CATALOG_UNAVAILABLE", "away")] * 3
    assert run(catalog, "add", "a=1") == 0
    assert len(catalog.added) == 1


def test_a_failure_that_lasts_ends_with_4_and_says_what_it_is(
    catalog: ScriptedCatalog, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.failures = [(grpc.StatusCode.UNAVAILABLE, "CATALOG_UNAVAILABLE", "memcached x")] * 99
    assert run(catalog, "add", "a=1", "--timeout", "0.5") == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "pandawn-pcache-hook: CATALOG_UNAVAILABLE: memcached x "
        f"(server {catalog.address}, retried for 0.5 s)\n"
    )


def test_a_server_that_is_not_there_ends_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 on loopback: nobody listens there.
    there = ["--server", f"{LOOPBACK}:1", "--site", "S", "--timeout", "0.2"]
    assert main(["flush", *there]) == 4
    assert "UNAVAILABLE: " in capsys.readouterr().err


def test_a_refusal_ends_with_3_at_once(
    catalog: ScriptedCatalog, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.failures = [(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "files[0].lfn: bad")]
    assert run(catalog, "add", "a=1", "b=2") == 3
    assert catalog.added == []
    said = capsys.readouterr().err
    assert said == "pandawn-pcache-hook: INVALID_REQUEST: files[0].lfn: bad\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add"], "EMPTY_FILE_LIST: "),
        (["delete"], "EMPTY_FILE_LIST: "),
        (["delete", "--guid"], "EMPTY_FILE_LIST: "),
        (["add", "a.root"], "INVALID_FILE: 'a.root' is not LFN=SIZE"),
        (["add", "=5"], "INVALID_FILE: "),
        (["add", "a="], "INVALID_FILE: "),
        (["add", "a=-1"], "INVALID_FILE: "),
        (["add", "a=1.5"], "INVALID_FILE: "),
        (["add", "a=²"], "INVALID_FILE: "),
        (["add", f"a={2**63}"], "INVALID_FILE: "),
        (
            ["add", "a=1", "b=2", "--guid", "G"],
            "INVALID_OPTION: --guid requires exactly one file, 2",
        ),
        (["add", "--file", "/no/such/list"], "UNREADABLE_LIST: /no/such/list cannot be read"),
    ],
)
def test_wrong_usage_ends_with_2_and_calls_nobody(
    catalog: ScriptedCatalog,
    arguments: Sequence[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(catalog, *arguments) == 2
    assert f"pandawn-pcache-hook: {complaint}" in capsys.readouterr().err
    assert (catalog.added, catalog.deleted) == ([], [])


@pytest.mark.parametrize(
    ("command", "line", "complaint"),
    [
        ("add", b"{", "not JSON"),
        ("add", b"[1]", "not a JSON object"),
        ("add", b'{"lfn": "a"}', 'needs "lfn" and "size_bytes"'),
        ("add", b'{"size_bytes": 1}', 'needs "lfn" and "size_bytes"'),
        ("add", b'{"lfn": "a", "size_bytes": "big"}', "size"),
        ("add", b'{"lfn": "a", "size_bytes": 1.5}', "size"),
        ("add", b'{"lfn": "a", "size_bytes": 1e30}', "size"),
        ("add", b'{"lfn": 5, "size_bytes": 1}', "lfn"),
        ("add", b'{"lfn": "a", "size_bytes": 1, "sise": 2}', "sise"),
        ("add", b'{"lfn": "\\ud800", "size_bytes": 1}', "lfn"),
        ("delete", b"{}", 'needs either "lfn" or "guid"'),
        ("delete", b'{"lfn": "a", "guid": "b"}', 'needs either "lfn" or "guid"'),
        ("delete", b'{"lfn": "a", "size_bytes": 1}', "size_bytes"),
        ("delete", b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_wrong_list_is_refused_with_the_line(
    catalog: ScriptedCatalog,
    tmp_path: Path,
    command: str,
    line: bytes,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "list"
    good = b'{"lfn": "good", "size_bytes": 1}\n' if command == "add" else b'{"lfn": "good"}\n'
    path.write_bytes(good + line + b"\n")
    assert run(catalog, command, "--file", str(path)) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "line 2: " in said or "UNREADABLE_LIST" in said
    assert (catalog.added, catalog.deleted) == ([], [])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sync"],
        ["add", "a=1"],
        ["add", "--site", "S", "--timeout", "0", "a=1"],
        ["add", "--site", "S", "--node", "\udcff", "a=1"],
        ["delete", "--site", "S", "\udcff"],
    ],
)
def test_what_argparse_refuses_ends_with_2(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_the_server_may_come_from_the_environment(
    catalog: ScriptedCatalog,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("PANDAWN_SERVER", raising=False)
    assert main(["flush", "--site", "S"]) == 2
    assert "NO_SERVER" in capsys.readouterr().err
    monkeypatch.setenv("PANDAWN_SERVER", catalog.address)
    assert main(["flush", "--site", "S"]) == 0
    # By default the node is the machine it runs on, by its full name.
    assert catalog.flushed[0].node
    assert catalog.flushed[0].node == catalog.flushed[0].node.lower()
