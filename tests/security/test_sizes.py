"""Large, deep and crowded requests: each is refused, and costs the server little to refuse.

Cost is processor time and the largest memory of the server, not time on the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import grpc
import psutil
import pytest

from tests.fixtures.besieged import Answer, Besieged, opened_for_attack
from tests.fixtures.messages import Method, Path, crowded, lists, methods, sound
from tests.fixtures.server import running_servers

METHODS = methods()
BY_NAME = {method.descriptor.name: method for method in METHODS}
LISTS = [(method, path) for method in METHODS for path, _ in lists(method.descriptor.input_type)]
MIB = 1024**2
# Of lists of nothing that is half a million items: to look at each would take longer than allowed.
CROWD_BYTES = MIB
MAX_BYTES = 32 * MIB
CPU_SECONDS = 6.0
MEMORY_BYTES = 1536 * MIB
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def fortress() -> Iterator[Besieged]:
    with running_servers() as start, opened_for_attack(start()) as besieged:
        yield besieged


def called(fortress: Besieged, method: Method, *requests: bytes) -> Answer:
    """Calls and fails if that was dear."""
    process = psutil.Process(fortress.server.pid)
    before = process.cpu_times()
    answer = fortress.call(method, *requests)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    assert spent < CPU_SECONDS, f"{method.path} took {spent:.1f} s to answer {answer}"
    assert peak_bytes(fortress) < MEMORY_BYTES, f"after {method.path}: {answer}"
    return answer


def peak_bytes(fortress: Besieged) -> int:
    status = FilePath(f"/proc/{fortress.server.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def rss_bytes(fortress: Besieged) -> int:
    return int(psutil.Process(fortress.server.pid).memory_info().rss)


@pytest.mark.parametrize(
    ("method", "path"), LISTS, ids=[f"{m.descriptor.name}.{'.'.join(p)}" for m, p in LISTS]
)
def test_a_crowded_list_is_refused_before_its_items_are_looked_at(
    fortress: Besieged, method: Method, path: Path
) -> None:
    kind = method.descriptor.input_type
    base = sound(kind, fortress.known()).SerializeToString()
    answer = called(fortress, method, base + crowded(kind, path, CROWD_BYTES))
    assert answer.code is INVALID, answer
    fortress.check_unharmed()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.descriptor.name)
def test_a_request_of_many_unknown_fields_costs_little(fortress: Besieged, method: Method) -> None:
    # Field 1023, a number; gRPC and protobuf pass over it, and some methods refuse it.
    raw = b"\xf8\x3f\x01" * (CROWD_BYTES // 3)
    assert called(fortress, method, raw).code is not grpc.StatusCode.INTERNAL
    fortress.check_unharmed()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.descriptor.name)
def test_a_deeply_nested_request_is_refused(fortress: Besieged, method: Method) -> None:
    # Groups, which only old protobuf knows, may still be nested in fields that nobody knows.
    depth = 100_000
    raw = b"\xfb\x3f" * depth + b"\xfc\x3f" * depth
    assert called(fortress, method, raw).code is INVALID
    fortress.check_unharmed()


@pytest.mark.parametrize("name", ["ReportJobs", "SubmitTask", "GetQueue", "ReportInventory"])
def test_a_request_beyond_the_limit_is_refused_unread(fortress: Besieged, name: str) -> None:
    raw = bytes([8 << 3 | 2]) + b"\x80\x80\x80\x10" + bytes(MAX_BYTES + 1)
    answer = called(fortress, BY_NAME[name], raw)
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    fortress.check_unharmed()


@pytest.mark.parametrize("name", ["ReportJobs", "RenewLeases", "SetOverride", "ListJobs"])
def test_only_lists_of_files_may_be_as_large_as_that(fortress: Besieged, name: str) -> None:
    raw = b"\x12\x00" * (MAX_BYTES // 2 - 10)
    answer = called(fortress, BY_NAME[name], raw)
    assert answer.code is INVALID
    assert "bytes" in answer.text
    fortress.check_unharmed()


def test_a_task_of_millions_of_empty_inputs_is_refused(fortress: Besieged) -> None:
    method = BY_NAME["SubmitTask"]
    raw = crowded(method.descriptor.input_type, ("task", "inputs"), MAX_BYTES - 100)
    assert called(fortress, method, raw).code is INVALID
    fortress.check_unharmed()


def test_what_was_decoded_of_refused_requests_does_not_pile_up(fortress: Besieged) -> None:
    method = BY_NAME["ReportJobs"]
    kind = method.descriptor.input_type
    base = sound(kind, fortress.known()).SerializeToString()
    raw = base + crowded(kind, ("reports", "phase_times"), CROWD_BYTES)
    called(fortress, method, raw)
    before = rss_bytes(fortress)
    for _ in range(20):
        called(fortress, method, raw)
    assert rss_bytes(fortress) - before < 256 * MIB


def test_metadata_beyond_the_limit_of_grpc_ends_that_call_only(fortress: Besieged) -> None:
    method = BY_NAME["GetQueue"]
    stub: Any = fortress.channel.unary_unary(method.path)
    many = tuple((f"x-{number}", "x") for number in range(20_000))
    for entries in ((("x-large", "x" * 100_000),), many):
        with pytest.raises(grpc.RpcError) as caught:
            stub(b"", metadata=entries, timeout=30)
        # Depending on where it is noticed, the stream is refused or the connection is closed.
        assert caught.value.code() in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.INTERNAL,
        )
        assert fortress.call(method, b"").code is INVALID
    fortress.check_unharmed()


def test_a_stream_of_inventories_without_an_end_is_cut_off(fortress: Besieged) -> None:
    method = BY_NAME["ReportInventory"]
    kind = method.descriptor.input_type
    message = crowded(kind, ("files",), 20_000)
    answer = called(fortress, method, *[message] * 1000)
    assert answer.code is INVALID
    fortress.check_unharmed()
