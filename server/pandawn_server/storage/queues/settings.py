"""Converts parameters of queues to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Any, cast

from pandawn_server.domain.queues.queues import PARAMETERS, QueueSettings, Value

Json = str | int | float | bool | list[str] | dict[str, str]


def pack_settings(settings: Mapping[str, Value]) -> dict[str, Json]:
    """Converts parameters to values of JSON: durations to seconds, enums to words."""
    return {name: _pack(value) for name, value in settings.items()}


def unpack_settings(packed: Mapping[str, Json]) -> QueueSettings:
    """Converts parameters from JSON. Skips those that this version does not know: a newer one may have set them."""
    values: dict[str, Value] = {}
    for name, value in packed.items():
        if name in PARAMETERS:
            # The word of an enum may be newer than this version, too.
            with suppress(ValueError):
                values[name] = _unpack(name, value)
    return QueueSettings(**values)


def _pack(value: Value) -> Json:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _unpack(name: str, value: Json) -> Value:
    kind: Any = PARAMETERS[name].type
    if kind is timedelta:
        return timedelta(seconds=cast("float", value))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return cast("Value", kind(value))
    if kind is tuple:
        return tuple(cast("list[str]", value))
    if kind is float:
        return float(cast("float", value))
    return cast("Value", value)
