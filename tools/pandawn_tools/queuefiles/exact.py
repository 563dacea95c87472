"""Writes and reads sizes and durations without loss.

Only unambiguous units are accepted. `G` may be 10^9 or 2^30 and `m` a minute or a month, so files,
which people read years later, may have neither.
"""

import re
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration

_SIZE_UNITS = {
    "B": 1,
    **{f"{letter}iB": 1024**n for n, letter in enumerate("KMGTPE", start=1)},
    **{f"{letter}B": 1000**n for n, letter in enumerate("kMGTPE", start=1)},
}
_BINARY = tuple((unit, _SIZE_UNITS[unit]) for unit in ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB"))
_BY_LOWER = {unit.lower(): factor for unit, factor in _SIZE_UNITS.items()}

_NANOS = 1_000_000_000
# Units of time in nanoseconds.
_TIME_UNITS = {
    "ms": _NANOS // 1000,
    "s": _NANOS,
    "min": 60 * _NANOS,
    "h": 3600 * _NANOS,
    "d": 86400 * _NANOS,
}
_WRITTEN = tuple((unit, _TIME_UNITS[unit]) for unit in ("d", "h", "min", "s", "ms"))

_QUANTITY = re.compile(r"(?P<number>-?\d{1,25}(?:\.\d{1,25})?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)
_MAX_INT64 = 2**63 - 1
# The contract's own limit for a duration.
_MAX_SECONDS = 315_576_000_000


def write_size(size_bytes: int) -> str:
    """Writes bytes with the largest unit that divides them: `14 GiB`, `1500 B`, `0`."""
    if size_bytes == 0:
        return "0"
    for unit, factor in _BINARY:
        if size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"


def read_size(text: str, bare: int | None = None) -> int:
    """Reads a size in bytes; a number without a unit counts `bare` bytes.

    Raises:
        ValueError: It is not a size, its unit is missing or ambiguous, or it is not a whole
            number of bytes; the text says what to write.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError("it is not a size; write it like 14336 MiB, 2 GiB or 500 MB")
    number, unit = Decimal(match["number"]), match["unit"]
    factor = _BY_LOWER.get(unit.lower())
    if not unit:
        factor = 1 if number == 0 else bare
        if factor is None:
            raise ValueError(f"it has no unit; write {number} MiB, or {number} B for bytes")
    if factor is None:
        raise ValueError(_unknown_size_unit(match["number"], unit))
    size = number * factor
    if size != int(size):
        raise ValueError(f"it is not a whole number of bytes; write {round(size)} B")
    if abs(size) > _MAX_INT64:
        raise ValueError("it does not fit into 64 bits")
    return int(size)


def _unknown_size_unit(number: str, unit: str) -> str:
    if unit.upper() in {"K", "M", "G", "T", "P", "E"}:
        letter = unit.upper()
        return (
            f"{unit} is ambiguous; write {number} {letter}iB (powers of 1024) "
            f"or {number} {'k' if letter == 'K' else letter}B (powers of 1000)"
        )
    return f"{unit} is not a unit of size; use B, KiB, MiB, GiB, TiB or kB, MB, GB, TB"


def write_duration(duration: Duration) -> str:
    """Writes a duration with the largest unit that divides it: `10 min`, `90 s`, `4 d`, `0`."""
    nanos = duration.seconds * _NANOS + duration.nanos
    if nanos == 0:
        return "0"
    for unit, factor in _WRITTEN:
        if nanos % factor == 0:
            return f"{nanos // factor} {unit}"
    return f"{Decimal(nanos) / _NANOS:f} s"


def read_duration(text: str, bare: int | None = None) -> Duration:
    """Reads a duration; a number without a unit counts `bare` seconds.

    Raises:
        ValueError: It is not a duration, its unit is missing or ambiguous, or it is too long or too
            fine; the text says what to write.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError("it is not a duration; write it like 90 s, 10 min, 2 h or 4 d")
    number, unit = Decimal(match["number"]), match["unit"]
    factor = _TIME_UNITS.get(unit.lower())
    if not unit:
        factor = _NANOS if number == 0 else None if bare is None else bare * _NANOS
        if factor is None:
            raise ValueError(f"it has no unit; write {number} s, {number} min or {number} h")
    if factor is None:
        if unit.lower() == "m":
            raise ValueError(f"m is ambiguous; write {number} min")
        raise ValueError(f"{unit} is not a unit of time; use ms, s, min, h or d")
    nanos = number * factor
    # The server counts in microseconds.
    if nanos % 1000:
        raise ValueError("it is finer than a microsecond")
    if abs(nanos) > _MAX_SECONDS * _NANOS:
        raise ValueError("it is longer than ten thousand years")
    # Both are rounded towards zero: the contract requires the same sign for both parts.
    whole, rest = divmod(abs(int(nanos)), _NANOS)
    sign = -1 if nanos < 0 else 1
    return Duration(seconds=sign * whole, nanos=sign * rest)
