"""Reads and writes sizes and times in the form that people use."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Help needs no protobuf.
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

_LETTERS = tuple(enumerate("KMGTPE", start=1))
_BINARY: dict[str, int] = {"": 1, "B": 1} | {
    unit: 1024**power for power, letter in _LETTERS for unit in (letter, f"{letter}IB")
}
_DECIMAL: dict[str, int] = {f"{letter}B": 1000**power for power, letter in _LETTERS}
_SIZE_UNITS = _BINARY | _DECIMAL
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
# What an int64 of the contract holds.
_MAX_INT64 = 2**63 - 1

_SECONDS = {
    "ms": 0.001,
    "s": 1,
    "sec": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "d": 86400,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d)\s*")
_MAX_DURATION_S = 100 * 365 * 86400


def parse_size(text: str) -> int:
    """Reads a size and returns bytes: `2GiB` and `2G` use powers of 1024, `2GB` powers of 1000, `2048` is bytes.

    Raises:
        ValueError: It is not a size, or too large for 64 bits; the message has an example.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _SIZE_UNITS.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write it like 500MB, 2GiB or 2048 (bytes)")
    number = match[1]
    # As a float first: float() takes any number of digits; int() refuses thousands of them.
    if float(number) * factor > _MAX_INT64:
        raise ValueError(f"{text!r} is too large for 64 bits")
    return min(
        int(number) * factor if number.isdecimal() else round(float(number) * factor), _MAX_INT64
    )


def parse_duration(text: str) -> timedelta:
    """Reads a duration: `90s`, `15min`, `2h`, `1h30m`, `3d`, `500ms`.

    Raises:
        ValueError: It is not a duration; the message has an example.
    """
    hint = "write it like 90s, 15min, 2h, 1h30m or 3d"
    stripped = text.strip()
    if stripped == "0":
        return timedelta(0)
    seconds = 0.0
    position = 0
    while position < len(stripped):
        part = _DURATION_PART.match(stripped, position)
        if part is None:
            raise ValueError(f"{text!r} is not a duration; {hint}")
        seconds += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if not stripped or seconds > _MAX_DURATION_S:
        raise ValueError(f"{text!r} is not a duration below 100 years; {hint}")
    return timedelta(seconds=seconds)


def format_size(size_bytes: int) -> str:
    """Writes a size with three digits: `212 KiB`, `1.4 GiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1000:
            digits = 0 if unit == "B" or abs(value) >= 100 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1024
    return f"{value:.1f} EiB"


def format_limit(size_bytes: int) -> str:
    """Writes a limit in bytes; 0 is no limit."""
    return format_size(size_bytes) if size_bytes else "no limit"


def format_span(span: timedelta) -> str:
    """Writes a duration in its two largest units: `45s`, `1m 30s`, `4d`."""
    seconds = span.total_seconds()
    if seconds < 0:
        return f"-{format_span(-span)}"
    if seconds < 10:
        return f"{seconds:.1f}s" if seconds % 1 else f"{seconds:.0f}s"
    rest = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def format_duration(duration: Duration) -> str:
    """Writes a protobuf duration as `format_span` does."""
    return format_span(duration.ToTimedelta())


def format_age(time: Timestamp, now: datetime) -> str:
    """Writes how long ago a time was, in its largest unit; empty for an unset time."""
    if not time.seconds:
        return ""
    age = max(now - time.ToDatetime(tzinfo=UTC), timedelta(0))
    return format_span(timedelta(seconds=int(age.total_seconds()))).split(" ", maxsplit=1)[0]


def format_time(time: Timestamp) -> str:
    """Writes a time in the user's time zone, to the second; empty for an unset time."""
    if not time.seconds:
        return ""
    return time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_count(number: int, noun: str) -> str:
    """Writes a number of things: `1 job`, `2 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_share(part: int, whole: int) -> str:
    """Writes a part of a whole in per cent; `-` if the whole is 0."""
    return f"{100 * part / whole:.0f} %" if whole else "-"
