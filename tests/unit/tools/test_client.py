import http.server
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from pandawn.broker.v1 import broker_pb2, task_pb2
from pandawn.monitor.v1 import monitor_pb2
from pandawn_client.channel import MAX_MESSAGE_BYTES
from pandawn_client.errors import Violation
from pandawn_client.policy import Patience
from pandawn_tools.cli.client import Client, new_request_id
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.settings import Address
from tests.fixtures.fake_broker import Failure, FakeBroker
from tests.fixtures.ports import LOOPBACK, free_port

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def web_server() -> Iterator[str]:
    """Something at a port that speaks HTTP/1 only; its address."""
    with http.server.HTTPServer((LOOPBACK, 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{LOOPBACK}:{server.server_port}"
        server.shutdown()


AWAY = Failure(grpc.StatusCode.UNAVAILABLE, reason="SHUTTING_DOWN", retry_after_ms=1)


def make_client(address: str, patience_s: float = 5.0) -> Client:
    return Client(
        Address(address, "a test"), patience=Patience(patience_s, 0.01), say=lambda _: None
    )


def submit(client: Client, *, user: str = "ann") -> task_pb2.Task:
    request = broker_pb2.SubmitTaskRequest(
        request_id=new_request_id(), task=task_pb2.TaskSpec(user=user)
    )
    return client.call(client.broker.SubmitTask, request).task


def test_a_server_that_comes_back_gets_the_same_request(fake_broker: FakeBroker) -> None:
    fake_broker.failures += [AWAY, AWAY]
    with make_client(fake_broker.address) as client:
        assert submit(client).task_id == 1


def test_a_reply_that_was_lost_does_not_submit_twice(fake_broker: FakeBroker) -> None:
    fake_broker.failures.append(
        Failure(grpc.StatusCode.UNAVAILABLE, message="Socket closed", after_work=True)
    )
    with make_client(fake_broker.address) as client:
        submit(client)
    assert len(fake_broker.request_ids) == 2
    assert len(fake_broker.tasks) == 1


def test_two_submissions_are_two_tasks(fake_broker: FakeBroker) -> None:
    with make_client(fake_broker.address) as client:
        assert [submit(client).task_id, submit(client).task_id] == [1, 2]


def test_an_overload_with_a_hint_is_waited_out(fake_broker: FakeBroker) -> None:
    fake_broker.failures.append(
        Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED", retry_after_ms=1)
    )
    with make_client(fake_broker.address) as client:
        assert submit(client).task_id == 1


@pytest.mark.parametrize(
    "failure",
    [
        Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="SANDBOX_TOO_LARGE"),
        Failure(grpc.StatusCode.NOT_FOUND, reason="QUEUE_NOT_FOUND"),
        Failure(grpc.StatusCode.ABORTED, reason="STALE_ETAG"),
        Failure(grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_EXPIRED"),
    ],
)
def test_a_refusal_is_final(fake_broker: FakeBroker, failure: Failure) -> None:
    fake_broker.failures.append(failure)
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        submit(client)
    assert caught.value.status is ExitStatus.REFUSED
    assert caught.value.reason == (failure.reason or failure.code.name)
    assert not fake_broker.tasks


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_fault_of_the_server_is_tried_again_as_the_pilot_does(
    fake_broker: FakeBroker, code: grpc.StatusCode
) -> None:
    fake_broker.failures += [Failure(code, message="incident 5")] * 2
    with make_client(fake_broker.address) as client:
        assert submit(client).task_id == 1


def test_a_lasting_fault_of_the_server_is_told_as_one(fake_broker: FakeBroker) -> None:
    fake_broker.failures += [Failure(grpc.StatusCode.INTERNAL, message="incident 5")] * 1000
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        submit(client)
    assert (caught.value.status, caught.value.reason) == (ExitStatus.REFUSED, "INTERNAL")


def test_what_time_does_not_mend_is_not_waited_for(
    web_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"waited {seconds} s for a web server to become another")

    monkeypatch.setattr(time, "sleep", sleep)
    with make_client(web_server, patience_s=600) as client, pytest.raises(CliError) as caught:
        submit(client)
    assert caught.value.status is ExitStatus.UNREACHABLE
    assert "HTTP/2" in caught.value.details[0]


def test_a_server_that_stays_away_ends_the_patience_and_says_why(fake_broker: FakeBroker) -> None:
    fake_broker.failures += [
        Failure(grpc.StatusCode.UNAVAILABLE, reason="DATABASE_UNAVAILABLE", retry_after_ms=20)
    ] * 1000
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        submit(client)
    assert caught.value.status is ExitStatus.UNREACHABLE
    assert caught.value.reason == "DATABASE_UNAVAILABLE"


def test_a_hint_beyond_the_patience_is_not_waited_for(fake_broker: FakeBroker) -> None:
    fake_broker.failures += [
        Failure(grpc.StatusCode.UNAVAILABLE, reason="SHUTTING_DOWN", retry_after_ms=3_600_000)
    ]
    with make_client(fake_broker.address) as client, pytest.raises(CliError):
        submit(client)


def test_nobody_at_the_address_is_told_with_its_origin() -> None:
    address = f"{LOOPBACK}:{free_port()}"
    with make_client(address) as client, pytest.raises(CliError, match=address) as caught:
        submit(client)
    assert caught.value.status is ExitStatus.UNREACHABLE
    assert caught.value.reason == "SERVER_UNREACHABLE"
    assert any("refused" in detail for detail in caught.value.details)
    assert any("a test" in detail for detail in caught.value.details)


def test_patience_is_long_only_with_a_server_that_has_answered(fake_broker: FakeBroker) -> None:
    with make_client(fake_broker.address, patience_s=600) as client:
        assert client.patience.seconds == 0.5
        submit(client)
        assert client.patience.seconds == 600


@pytest.mark.parametrize("rich", [True, False])
def test_the_reason_is_read_from_details_and_from_plain_trailers(
    fake_broker: FakeBroker, *, rich: bool
) -> None:
    fake_broker.failures.append(
        Failure(grpc.StatusCode.NOT_FOUND, "no queue", reason="QUEUE_NOT_FOUND", rich=rich)
    )
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        submit(client)
    assert caught.value.reason == "QUEUE_NOT_FOUND"
    assert caught.value.message == "no queue"
    assert any("pandawn queues list" in remedy for remedy in caught.value.remedies)


def test_all_violations_are_kept(fake_broker: FakeBroker) -> None:
    violations = [(f"task.field{n}", f"wrong {n}") for n in range(30)]
    fake_broker.failures.append(
        Failure(
            grpc.StatusCode.INVALID_ARGUMENT,
            reason="INVALID_REQUEST",
            rich=True,
            violations=violations,
        )
    )
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        submit(client)
    assert caught.value.violations == tuple(Violation(f, d) for f, d in violations)
    assert caught.value.details[:30] == tuple(f"{f}: {d}" for f, d in violations)


def test_a_request_above_the_message_limit_is_not_sent(fake_broker: FakeBroker) -> None:
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        submit(client, user="x" * (MAX_MESSAGE_BYTES + 1))
    assert caught.value.status is ExitStatus.USAGE
    assert caught.value.reason == "REQUEST_TOO_LARGE"
    assert "32.0 MiB" in caught.value.message
    assert not fake_broker.request_ids


def test_a_server_that_knows_no_such_call_is_named_as_such(fake_broker: FakeBroker) -> None:
    with make_client(fake_broker.address) as client, pytest.raises(CliError) as caught:
        client.call(client.broker.GetJob, broker_pb2.GetJobRequest(job_id=1))
    assert caught.value.reason == "UNIMPLEMENTED"
    assert any("older" in detail for detail in caught.value.details)


def test_a_proxy_on_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    with make_client("pandawn.invalid:1") as client, pytest.raises(CliError) as caught:
        submit(client)
    assert caught.value.status is ExitStatus.UNREACHABLE
    assert "http_proxy is not used for gRPC" in caught.value.remedies[-1]


def test_loopback_is_reached_in_spite_of_a_proxy(
    fake_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    with make_client(fake_broker.address) as client:
        assert submit(client).task_id == 1


def test_an_interrupted_upload_begins_anew(fake_broker: FakeBroker) -> None:
    fake_broker.failures.append(AWAY)
    chunks = [broker_pb2.UploadSandboxRequest(chunk=c) for c in (b"ab", b"c")]
    with make_client(fake_broker.address) as client:
        client.upload(client.broker.UploadSandbox, lambda: iter(chunks))
    assert fake_broker.uploads == [b"abc"]


def test_a_broken_stream_goes_on_where_it_was(fake_broker: FakeBroker) -> None:
    fake_broker.events += [[monitor_pb2.Event(event_id=n)] for n in (5, 6, 7)]
    fake_broker.failures += [AWAY, AWAY]
    request = monitor_pb2.StreamEventsRequest(follow=True)
    seen = []
    with make_client(fake_broker.address) as client:
        for reply in client.follow(client.monitor.StreamEvents, lambda: request):
            seen += [event.event_id for event in reply.events]
            request.after_event_id = seen[-1]
    assert seen == [5, 6, 7]
    assert [r.after_event_id for r in fake_broker.event_requests] == [0, 5, 6]


def test_pages_are_read_to_the_limit_and_no_further(fake_broker: FakeBroker) -> None:
    asked: list[tuple[str, int]] = []

    def fetch(token: str, size: int) -> broker_pb2.ListTasksResponse:
        asked.append((token, size))
        begin = int(token or 0)
        tasks = [task_pb2.Task(task_id=n) for n in range(begin, min(begin + size, 25))]
        more = str(begin + size) if begin + size < 25 else ""
        return broker_pb2.ListTasksResponse(tasks=tasks, next_page_token=more)

    with make_client(fake_broker.address) as client:
        rows, more = client.pages(fetch, lambda page: page.tasks, limit=15, page_size=10)
        assert (len(rows), more) == (15, True)
        assert asked == [("", 10), ("10", 5)]
        rows, more = client.pages(fetch, lambda page: page.tasks, limit=None, page_size=10)
        assert (len(rows), more) == (25, False)
