from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from pandawn_tools.bench.h2 import ProtocolError
from pandawn_tools.bench.load import Generator, Load, Shape, Target
from tests.unit.bench.conftest import SERVICE

SHAPE = Shape(connections=2, streams=3, warm_s=0.0, measure_s=30.0)


@dataclass
class Witness:
    """Writes down what it is told."""

    heard: list[str] = field(default_factory=list)

    def window_opens(self) -> None:
        self.heard.append("opens")

    def window_closes(self) -> None:
        self.heard.append("closes")

    def good_answer(self) -> None:
        self.heard.append("good")


def run(
    port: int,
    messages: Iterator[bytes],
    method: str = "Echo",
    shape: Shape = SHAPE,
    min_bytes: int = 0,
    witness: Witness | None = None,
) -> Load:
    target = Target([("127.0.0.1", port)], f"/{SERVICE}/{method}")
    generator = Generator(
        target, shape, messages, witness or Witness(), min_bytes=min_bytes, keep_bodies=True
    )
    return generator.run()


def test_each_message_is_sent_once_and_its_answer_comes_back(echo_port: int) -> None:
    messages = [b"message %d" % number for number in range(200)]

    load = run(echo_port, iter(messages))

    assert sorted(load.bodies) == sorted(messages)
    assert load.total_ok == 200
    assert load.statuses == {0: 200}


@pytest.mark.parametrize("size", [0, 1, 16_378, 16_379, 16_380, 40_000, 65_530])
def test_messages_of_any_size_up_to_the_window_arrive_whole(echo_port: int, size: int) -> None:
    message = bytes(number % 251 for number in range(size))

    load = run(echo_port, iter([message] * 30))

    assert load.bodies == [message] * 30


def test_more_bytes_than_the_window_of_a_connection_are_sent_as_it_opens(echo_port: int) -> None:
    shape = Shape(connections=1, streams=50, warm_s=0.0, measure_s=30.0)

    load = run(echo_port, iter([b"x" * 30_000] * 100), shape=shape)

    assert load.total_ok == 100


def test_a_message_too_large_for_a_stream_is_refused(echo_port: int) -> None:
    with pytest.raises(ProtocolError, match="exceeds the window"):
        run(echo_port, iter([b"x" * 70_000]))


def test_refused_calls_are_counted_by_their_status(echo_port: int) -> None:
    load = run(echo_port, iter([b"x"] * 20), method="Refuse")

    assert load.statuses == {8: 20}
    assert load.total_ok == 0
    assert load.bodies == []


def test_an_unknown_method_is_counted_as_unimplemented(echo_port: int) -> None:
    assert run(echo_port, iter([b"x"]), method="Missing").statuses == {12: 1}


def test_short_answers_are_idle_and_not_good(echo_port: int) -> None:
    load = run(echo_port, iter([b"x" * 9, b"x" * 10, b"x" * 11]), min_bytes=10)

    assert (load.total_ok, load.total_idle) == (2, 1)


def test_the_watcher_hears_of_the_window_and_of_each_good_answer(echo_port: int) -> None:
    witness = Witness()

    load = run(echo_port, iter([b"x"] * 30), witness=witness)

    assert witness.heard[0] == "opens"
    assert witness.heard.count("good") == load.total_ok == 30
    assert witness.heard.count("closes") == 1


def test_a_window_ends_by_time_while_messages_go_on(echo_port: int) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    load = run(echo_port, endless(), shape=Shape(2, 2, 0.05, 0.2))

    assert load.seconds > 0
    assert load.ok == len(load.latencies_s) <= load.total_ok
    assert load.rps > 0
    assert load.quantile_ms(0.5) <= load.quantile_ms(0.99)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError):
        run(1, iter([b"x"]))


def test_nothing_measured_is_no_division_by_zero() -> None:
    assert Load().rps == 0
    assert Load().quantile_ms(0.5) == 0
