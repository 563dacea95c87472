"""Log lines are structured, say which call they belong to, and never make one fail."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pandawn_server.logs import configure_logs, enter_call
from pandawn_server.wire.edge.runner import Runner


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """Leaves the logging of the test run as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level


@pytest.fixture
def stream() -> io.StringIO:
    """Where the logs go, as JSON."""
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_what_was_bound(stream: io.StringIO) -> None:
    structlog.get_logger().bind(job=7, attempt=2).info("leased", node="wn01")
    (event,) = lines(stream)
    assert event["event"] == "leased"
    assert (event["job"], event["attempt"], event["node"]) == (7, 2, "wn01")
    assert event["level"] == "info"
    assert str(event["timestamp"]).endswith("Z")


def test_a_value_cannot_forge_a_line(stream: io.StringIO) -> None:
    structlog.get_logger().info("x", user='a\n{"event": "forged"}')
    (event,) = lines(stream)
    assert event["event"] == "x"


async def test_events_of_a_call_name_it_also_from_a_thread(stream: io.StringIO) -> None:
    async def call(number: int) -> None:
        enter_call(f"/service/{number}", f"ipv6:%5B::1%5D:{number}")
        await asyncio.sleep(0)
        await runner.run(structlog.get_logger().info, "in a thread")

    runner = Runner(2)
    await asyncio.gather(*(call(number) for number in (1, 2)))
    await runner.close()
    seen = {(event["rpc"], event["peer"]) for event in lines(stream)}
    assert seen == {("/service/1", "ipv6:[::1]:1"), ("/service/2", "ipv6:[::1]:2")}


def test_events_below_the_level_are_dropped(stream: io.StringIO) -> None:
    structlog.get_logger().debug("detail")
    assert not lines(stream)


def test_libraries_log_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("library").warning("careful with %s", "this")
    logging.getLogger("library").info("chatter")
    (event,) = lines(stream)
    assert (event["event"], event["logger"]) == ("careful with this", "library")


def test_an_exception_is_logged_with_its_traceback(stream: io.StringIO) -> None:
    structlog.get_logger().error("bad", exc_info=ValueError("of this"))
    (event,) = lines(stream)
    assert "ValueError: of this" in str(event["exception"])


def test_a_log_that_cannot_be_written_harms_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, f"no space left for {text}")

    configure_logs("info", "console", Full())
    structlog.get_logger().info("lost")
    logging.getLogger("library").warning("lost too")


def test_clients_that_leave_while_they_are_answered_leave_no_traceback(
    stream: io.StringIO,
) -> None:
    core = logging.getLogger("grpc._cython.cygrpc")
    core.error("ExecuteBatchError raised in core by servicer method [/x]")
    core.error("Unexpected [ZeroDivisionError] raised by servicer method [/x]")
    assert ["Unexpected" in str(line["event"]) for line in lines(stream)] == [True]
