"""Reads the list of queues from JSON: one object of objects, whose contents are checked later."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pandawn_tools.queuefiles.legacy import Json, kind_of


class DocumentError(Exception):
    """The bytes are not a list of queues."""


@dataclass(frozen=True, slots=True)
class CricList:
    """Objects by name, and names that occur more than once."""

    queues: Mapping[str, Json]
    duplicates: frozenset[str]


class _Object(dict[str, Json]):
    """An object that records its repeated keys; it has the last value of each."""

    twice: frozenset[str] = frozenset()


def _make_object(pairs: list[tuple[str, Json]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        made.twice = frozenset(key for key, count in counts.items() if count > 1)
    return made


def twice(value: Mapping[str, Json]) -> frozenset[str]:
    """Returns the keys that the object had more than once."""
    return value.twice if isinstance(value, _Object) else frozenset()


def read_list(body: bytes) -> CricList:
    """Reads the list.

    Raises:
        DocumentError: It is not JSON, or not an object; the text says where.
    """
    try:
        value: Json = json.loads(body, object_pairs_hook=_make_object)
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"line {error.lineno}, column {error.colno}: {error.msg}: this is not JSON"
        ) from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"byte {error.start}: the text is not UTF-8") from error
    except RecursionError as error:
        raise DocumentError("it is nested too deeply to be a list of queues") from error
    except ValueError as error:
        # Python refuses to read numbers of thousands of digits.
        raise DocumentError(f"a number in it is too long: {error}") from error
    if not isinstance(value, Mapping):
        raise DocumentError(f"it holds {kind_of(value)} instead of an object of queues by name")
    return CricList(value, twice(value))
