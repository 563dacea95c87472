from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pandawn_tools.cli.units import (
    format_age,
    format_count,
    format_share,
    format_size,
    format_span,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("2048", 2048),
        ("2GiB", 2 * 1024**3),
        ("2 gib", 2 * 1024**3),
        ("2G", 2 * 1024**3),
        ("2GB", 2 * 1000**3),
        ("1.5k", 1536),
        ("14336MiB", 14336 * 1024**2),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "2XB", "1e3", "9999999999PiB", "1,5G"])
def test_what_is_no_size_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match=r"2GiB|64 bits"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("15m", 900), ("1h30m", 5400), ("1d 2h", 93600), ("500ms", 0.5)],
)
def test_a_span_of_time_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


def test_zero_needs_no_unit() -> None:
    assert parse_duration("0") == timedelta(0)


@pytest.mark.parametrize("text", ["", "90", "h", "1x", "1h30", "-5s", "200000d", "s5"])
def test_what_is_no_span_of_time_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@given(st.integers(0, 2**62))
def test_a_written_size_has_at_most_three_digits_and_is_read_back_nearly(size: int) -> None:
    text = format_size(size)
    assert len(text.split(" ", maxsplit=1)[0].replace(".", "")) <= 4
    assert parse_size(text) == pytest.approx(size, rel=0.06, abs=0.5)


@given(st.integers(0, 3_000_000_000))
def test_a_written_span_is_read_back_to_its_second_unit(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    if span:
        again = parse_duration(format_span(span))
        assert abs(again - span) <= max(timedelta(hours=1), timedelta(0))


def test_an_unset_time_has_no_age() -> None:
    assert format_age(Timestamp(), datetime.now(UTC)) == ""


def test_a_time_ahead_of_a_slow_clock_is_now() -> None:
    assert format_age(Timestamp(seconds=2_000_000_000), datetime(2000, 1, 1, tzinfo=UTC)) == "0s"


def test_a_share_of_nothing_is_no_number() -> None:
    assert (format_share(1, 4), format_share(0, 0)) == ("25 %", "-")


def test_one_thing_is_not_plural() -> None:
    assert (format_count(1, "job"), format_count(1200, "job")) == ("1 job", "1,200 jobs")
