"""Configurations larger than one reply are planned, applied, compared, rolled back and listed in replies that fit.

Neither the channels here nor the command line take more than gRPC's default, 4 MiB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from pandawn.queueconfig.v1 import (
    document_pb2,
    override_pb2,
    parameters_pb2,
    queue_pb2,
    queueconfig_pb2_grpc,
    revision_pb2,
)
from pandawn_server.domain.dispatch.reply_size import LIST_BYTES, MAX_REPLY_BYTES
from pandawn_server.domain.queues.queues import PARAMETERS
from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.config import queue_request
from tests.fixtures.cric import cric_bytes, make_cric_queue
from tests.fixtures.rpc import code_of, reason_of
from tests.fixtures.server import PandawnServer

TIMEOUT_S = 60.0
CHANGES = 5

QUEUE = document_pb2.DOCUMENT_KIND_QUEUE
COUNT = 60
# Each 96 kB, in few values: quick to read and to check.
LONG = {f"k{number:02d}": "x" * 3_840 for number in range(25)}
NAMES = [f"Q{number:02d}" for number in range(COUNT)]
# A request has its own order.
ASKED = NAMES[::-1]

Stub = queueconfig_pb2_grpc.QueueConfigStub


@pytest.fixture
def stub(embedded_server: PandawnServer) -> Stub:
    return Stub(embedded_server.channel())


@pytest.fixture
def pandawn(embedded_server: PandawnServer, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    return Pandawn(embedded_server.address, tmp_path, run_cli)


def large_request(**more: Any) -> document_pb2.ApplyConfigRequest:
    values = parameters_pb2.QueueParameters(catchall=parameters_pb2.StringMap(values=LONG))
    changes = [
        document_pb2.DocumentChange(kind=QUEUE, name=name, parameters=values) for name in ASKED
    ]
    return document_pb2.ApplyConfigRequest(changes=changes, **more)


def pages_of(call: Callable[..., Any], request: Any) -> list[Any]:
    pages = [call(request, timeout=TIMEOUT_S)]
    while pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token
        pages.append(call(request, timeout=TIMEOUT_S))
    request.ClearField("page_token")
    assert all(page.ByteSize() <= MAX_REPLY_BYTES for page in pages)
    return pages


def names_in(pages: Sequence[Any]) -> list[str]:
    return [diff.name for page in pages for diff in page.diffs]


def refusal(call: Callable[..., object], request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=TIMEOUT_S)
    return code_of(caught.value), reason_of(caught.value)


def test_a_large_change_is_planned_made_read_and_rolled_back(stub: Stub) -> None:
    stub.ApplyConfig(queue_request("first", site="S"), timeout=TIMEOUT_S)
    request = large_request(validate_only=True, allowed_removals=COUNT)
    plan = pages_of(stub.ApplyConfig, request)
    assert len(plan) == 2
    assert names_in(plan) == ASKED
    assert {(page.diff_count, page.revision) for page in plan} == {(COUNT, 1)}

    request.validate_only = False
    made = stub.ApplyConfig(request, timeout=TIMEOUT_S)
    assert (made.revision, made.diff_count, made.next_page_token) == (2, COUNT, "")
    assert names_in([made]) == ASKED[: len(made.diffs)] != ASKED

    compare = revision_pb2.DiffRevisionsRequest(from_revision=1, to_revision=2)
    compared = list(stub.DiffRevisions(compare, timeout=TIMEOUT_S))
    assert (len(compared), names_in(compared)) == (2, NAMES)
    exported = list(stub.ExportConfig(document_pb2.ExportConfigRequest(), timeout=TIMEOUT_S))
    assert [doc.name for part in exported for doc in part.documents] == [*NAMES, "first"]
    listing = queue_pb2.ListQueuesRequest(page_size=1000)
    listed = [queue.name for page in pages_of(stub.ListQueues, listing) for queue in page.queues]
    assert listed == [*NAMES, "first"]

    back = revision_pb2.RollbackRequest(revision=1, validate_only=True, allowed_removals=COUNT)
    planned = pages_of(stub.Rollback, back)
    assert (names_in(planned), planned[0].removals, planned[0].diff_count) == (NAMES, COUNT, COUNT)
    back.validate_only = False
    undone = stub.Rollback(back, timeout=TIMEOUT_S)
    assert (undone.revision, undone.diff_count, undone.next_page_token) == (3, COUNT, "")
    assert 0 < len(undone.diffs) < COUNT


def test_a_page_belongs_to_its_request_and_its_revision(stub: Stub) -> None:
    request = large_request(validate_only=True)
    request.page_token = stub.ApplyConfig(request, timeout=TIMEOUT_S).next_page_token
    stub.ApplyConfig(request, timeout=TIMEOUT_S)
    other = document_pb2.ApplyConfigRequest()
    other.CopyFrom(request)
    del other.changes[-1]
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(stub.ApplyConfig, other) == (invalid, "INVALID_PAGE_TOKEN")
    back = revision_pb2.RollbackRequest(
        revision=1, validate_only=True, page_token=request.page_token
    )
    stub.ApplyConfig(queue_request("other", site="S"), timeout=TIMEOUT_S)
    assert refusal(stub.Rollback, back) == (invalid, "INVALID_PAGE_TOKEN")
    assert refusal(stub.ApplyConfig, request) == (grpc.StatusCode.ABORTED, "STALE_REVISION")
    request.validate_only = False
    assert refusal(stub.ApplyConfig, request) == (invalid, "INVALID_REQUEST")


def test_all_that_is_wrong_with_a_plan_comes_in_pages(stub: Stub) -> None:
    wrong = [f"p{number:02d}" + "ü" * 60 for number in range(20)]
    mask = FieldMask(paths=wrong)
    one = parameters_pb2.QueueParameters(cores=1)
    changes = [
        document_pb2.DocumentChange(kind=QUEUE, name=f"Q{number}", parameters=one, update_mask=mask)
        for number in range(400)
    ]
    # A name that is no name may be as long as a message.
    changes.append(document_pb2.DocumentChange(kind=QUEUE, name="n" * 5_000_000, remove=True))
    request = document_pb2.ApplyConfigRequest(changes=changes, validate_only=True)
    pages = pages_of(stub.ApplyConfig, request)
    assert len(pages) > 1
    found = [violation for page in pages for violation in page.violations]
    assert [v.position for v in found] == [n for n in range(400) for _ in wrong] + [400]
    assert all(v.field == "update_mask" for v in found[:-1])


def test_the_longest_queue_and_the_longest_difference_fit(stub: Stub) -> None:
    # The others have a form that keeps them shorter.
    formed = {"immutable_scopes", "pilot_methods", "pilot_networks", "environment"}
    long: dict[type, Any] = {
        tuple: parameters_pb2.StringList(values=[*("é" * 1_900 for _ in range(26)), *"z" * 900]),
        Mapping: parameters_pb2.StringMap(values=LONG | {f"z{n:03d}": "" for n in range(900)}),
    }

    def values(last: str) -> parameters_pb2.QueueParameters:
        found: dict[str, Any] = {
            p.name: long[p.type] for p in PARAMETERS.values() if p.type in long
        }
        text = "t" * 3_999 + last
        found |= {"comment": text, "container_options": text, "setup_command": text}
        return parameters_pb2.QueueParameters(
            **{name: value for name, value in found.items() if name not in formed}
        )

    def change(parameters: parameters_pb2.QueueParameters) -> document_pb2.ApplyConfigResponse:
        one = document_pb2.DocumentChange(kind=QUEUE, name="Q", parameters=parameters)
        return stub.ApplyConfig(document_pb2.ApplyConfigRequest(changes=[one]), timeout=TIMEOUT_S)

    change(values("a"))
    get = queue_pb2.GetQueueRequest(name="Q", with_origins=True)
    found = stub.GetQueue(get, timeout=TIMEOUT_S)
    assert 900_000 < found.ByteSize() < 1_900_000
    long[tuple].values[-1] = "y"
    long[Mapping].values["z000"] = "y"
    reply = change(values("b"))
    assert (len(reply.diffs), reply.diff_count) == (1, 1)
    assert 1_800_000 < reply.ByteSize() < LIST_BYTES
    (first,) = pages_of(stub.ListQueues, queue_pb2.ListQueuesRequest())
    assert len(first.queues) == 1


@pytest.mark.parametrize(
    "value",
    [
        {"releases": parameters_pb2.StringList(values=["é" * 1_000] * 51)},
        {
            "environment": parameters_pb2.StringMap(
                values={f"A{n}": "x" * 1_000 for n in range(100)}
            )
        },
    ],
    ids=["list", "map"],
)
def test_a_list_or_map_has_a_bound_in_bytes(stub: Stub, value: dict[str, Any]) -> None:
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refusal(stub.ApplyConfig, queue_request("Q", **value)) == invalid
    stub.ApplyConfig(queue_request("Q", site="S"), timeout=TIMEOUT_S)
    override = override_pb2.SetOverrideRequest(
        request_id="r",
        queue="Q",
        parameters=parameters_pb2.QueueParameters(**value),
        duration=Duration(seconds=60),
    )
    assert refusal(stub.SetOverride, override) == invalid


def test_the_command_line_plans_applies_and_rolls_back_what_no_reply_holds(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    pandawn.ok("queues", "set", "first", "--create", "site=S")
    folder = tmp_path / "conf" / "queues"
    folder.mkdir(parents=True)
    lines = "".join(f"  {key}: {value}\n" for key, value in LONG.items())
    for name in NAMES:
        (folder / f"{name}.yaml").write_text(f"queue: {name}\nsite: S\ncatchall:\n{lines}")
    conf = str(tmp_path / "conf")

    planned = pandawn.run("queues", "plan", conf, "--json")
    assert planned.status == CHANGES, planned.err[-500:]
    assert [diff["name"] for diff in json.loads(planned.out)["diffs"]] == NAMES
    shown = pandawn.run("queues", "plan", conf)
    assert shown.out.count("+ queue Q") == COUNT
    assert f"compared with revision 1: {COUNT} queues to create" in shown.err
    applied = pandawn.run("queues", "apply", conf, "-m", "large", "--json")
    assert [diff["name"] for diff in json.loads(applied.out)["diffs"]] == NAMES
    assert f"revision 2: {COUNT} queues created" in applied.err

    rollback = ("queues", "rollback", "1", "--allow-offline", str(COUNT))
    dry = pandawn.run(*rollback, "--dry-run")
    assert dry.out.count("- queue Q") == COUNT
    assert f"{COUNT} queues to delete" in dry.err
    assert len(json.loads(pandawn.ok(*rollback, "--json"))["diffs"]) == COUNT


def test_a_large_import_from_cric_is_shown_and_counted(pandawn: Pandawn, tmp_path: Path) -> None:
    releases = [f"{number:02d}" + "r" * 3_800 for number in range(25)]
    listed = {name: make_cric_queue(name, "S") | {"releases": releases} for name in NAMES}
    path = tmp_path / "cric.json"
    path.write_bytes(cric_bytes(listed))
    for arguments, done in ((("--dry-run",), "to create"), ((), "created")):
        said = pandawn.run("queues", "import-cric", str(path), "--json", *arguments)
        assert said.status == 0, said.err[-500:]
        assert len(json.loads(said.out)["diffs"]) == COUNT, done
