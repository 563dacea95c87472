"""The list of queues as JSON: one object of objects, however odd what is in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pandawn_tools.queuefiles.legacy import Json, kind_of


class DocumentError(Exception):
    """The bytes are no list of queues at all."""


@dataclass(frozen=True, slots=True)
class CricList:
    """Objects by the name under which they stand, and names that stand there twice."""

    queues: Mapping[str, Json]
    duplicates: frozenset[str]


class _Object(dict[str, Json]):
    """An object that remembers which keys it had twice; the last value won."""

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
        DocumentError: It is no JSON, or no object; the text says where.
    """
    try:
        value: Json = json.loads(body, object_pairs_hook=_make_object)
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"line {error.lineno}, column {error.colno}: {error.msg}: this is no JSON"
        ) from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"byte {error.start}: the text is no UTF-8") from error
    except RecursionError as error:
        raise DocumentError("it is nested too deeply to be a list of queues") from error
    except ValueError as error:
        # Python refuses to read numbers of thousands of digits.
        raise DocumentError(f"a number in it is too long: {error}") from error
    if not isinstance(value, Mapping):
        raise DocumentError(f"it holds {kind_of(value)}, where an object of queues by name belongs")
    return CricList(value, twice(value))
