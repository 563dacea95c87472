"""Converts the settings in requests, and effective queues in responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, cast

from google.protobuf.duration_pb2 import Duration

from pandawn.queueconfig.v1 import parameters_pb2, queue_pb2
from pandawn_server.domain.access.principals import Principal
from pandawn_server.domain.access.reach import sees_inside
from pandawn_server.domain.errors import Violation
from pandawn_server.domain.queues.queues import (
    PARAMETERS,
    SETTING_NAMES,
    PayloadIsolation,
    Queue,
    QueueSettings,
    QueueStatus,
    Value,
)
from pandawn_server.wire.edge.enums import PAYLOAD_ISOLATION, QUEUE_STATUS
from pandawn_server.wire.edge.rules import name_problem, text_problem, url_problem
from pandawn_server.wire.edge.validation import MAX_NAME_CHARACTERS
from pandawn_server.wire.edge.values import to_duration, to_timestamp

INSIDE: tuple[Literal["environment"], Literal["setup_command"]] = ("environment", "setup_command")
"""Parameters whose values may be confidential to the site."""

MAX_TEXT_BYTES = 4_000
"""Maximum length of a text parameter, of an element, of a key."""

MAX_ELEMENTS = 1_000
"""Maximum number of elements of a list or a map."""

MAX_VALUE_BYTES = 100_000
"""Maximum size of a list or a map. Thirteen of them, old and new, are the largest difference that a reply has."""

_NANOSECONDS_A_MICROSECOND = 1000
# Beyond all bounds, but far below the largest `timedelta`.
_LONG_S = 10**9

Problem = str | None


def to_queue(queue: Queue) -> queue_pb2.Queue:
    """Converts a queue with all its parameters."""
    return queue_pb2.Queue(
        name=queue.name,
        etag=queue.etag,
        revision=queue.revision,
        update_time=to_timestamp(queue.update_time),
        parameters=to_settings({name: getattr(queue, name) for name in SETTING_NAMES}),
    )


def to_queue_for(by: Principal, queue: Queue) -> queue_pb2.Queue:
    """Converts a queue without the parameters in `INSIDE`, unless the caller administers the site or is its pilot."""
    message = to_queue(queue)
    if not sees_inside(by, queue.site, queue.name):
        for name in INSIDE:
            message.parameters.ClearField(name)
    return message


def to_settings(settings: Mapping[str, Value]) -> parameters_pb2.QueueParameters:
    """Converts the parameters that are set; others stay unset."""
    return parameters_pb2.QueueParameters(
        **{name: _to_wire(value) for name, value in settings.items()}
    )


def _to_wire(value: Value) -> Any:  # noqa: ANN401 (whatever the field takes)
    if isinstance(value, timedelta):
        return to_duration(value)
    if isinstance(value, QueueStatus):
        return QUEUE_STATUS.to_wire(value)
    if isinstance(value, PayloadIsolation):
        return PAYLOAD_ISOLATION.to_wire(value)
    if isinstance(value, tuple):
        return parameters_pb2.StringList(values=value)
    if isinstance(value, Mapping):
        return parameters_pb2.StringMap(values=value)
    return value


def settings_given(message: parameters_pb2.QueueParameters) -> list[str]:
    """Returns the names of the parameters that are set in a message."""
    return [name for name in SETTING_NAMES if message.HasField(name)]  # type: ignore[arg-type]


def from_settings(message: parameters_pb2.QueueParameters) -> tuple[QueueSettings, list[Violation]]:
    """Returns the parameters that are set in a message, and the violations of their form.

    The domain checks bounds, and what a level may set. A parameter with a violation is left out.
    """
    values: dict[str, Value] = {}
    found: list[Violation] = []
    for name in settings_given(message):
        value, problem = _READERS[PARAMETERS[name].type](getattr(message, name))
        if problem is None and name in _RULES:
            problem = _RULES[name](value)
        if problem is not None:
            found.append(Violation(name, problem))
        else:
            values[name] = value
    return QueueSettings(**values), found


def _text(value: str) -> tuple[str, Problem]:
    return value, text_problem(value, MAX_TEXT_BYTES)


def _as_it_is(value: Value) -> tuple[Value, Problem]:
    return value, None


def _span(value: Duration) -> tuple[timedelta, Problem]:
    seconds = max(-_LONG_S, min(value.seconds, _LONG_S))
    span = timedelta(seconds=seconds, microseconds=value.nanos // _NANOSECONDS_A_MICROSECOND)
    return span, None


def _status(number: int) -> tuple[QueueStatus, Problem]:
    found = QUEUE_STATUS.to_domain(number)
    return found or QueueStatus.ONLINE, None if found else "is not a known status"


def _isolation(number: int) -> tuple[PayloadIsolation, Problem]:
    found = PAYLOAD_ISOLATION.to_domain(number)
    return found or PayloadIsolation.AUTO, None if found else "is not a known isolation"


def _list(message: parameters_pb2.StringList) -> tuple[tuple[str, ...], Problem]:
    values = tuple(message.values)
    return values, _many_problem(len(values), values) or _first_problem(values)


def _map(message: parameters_pb2.StringMap) -> tuple[Mapping[str, str], Problem]:
    # Sorted, so that equal maps have the same order, from any client.
    values = dict(sorted(message.values.items()))
    texts = (*values, *values.values())
    problem = _many_problem(len(values), texts) or _first_problem(texts)
    return values, problem or ("has an empty key" if "" in values else None)


def _many_problem(count: int, texts: tuple[str, ...]) -> Problem:
    if count > MAX_ELEMENTS:
        return f"has {count:,} elements; {MAX_ELEMENTS:,} are allowed"
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_VALUE_BYTES:
        return f"has {size:,} bytes; {MAX_VALUE_BYTES:,} are allowed"
    return None


def _first_problem(texts: tuple[str, ...]) -> Problem:
    problems = (text_problem(text, MAX_TEXT_BYTES) for text in texts)
    return next((f"has an element that {p}" for p in problems if p is not None), None)


_READERS: Mapping[type, Callable[[Any], tuple[Value, Problem]]] = {
    str: _text,
    int: _as_it_is,
    float: _as_it_is,
    bool: _as_it_is,
    timedelta: _span,
    QueueStatus: _status,
    PayloadIsolation: _isolation,
    tuple: _list,
    cast("type", Mapping): _map,
}


def _name(value: Value) -> Problem:
    return name_problem(str(value), MAX_NAME_CHARACTERS) if value else None


def _environment(value: Value) -> Problem:
    for name in cast("Mapping[str, str]", value):
        if not (name.isascii() and name.isidentifier()):
            return f"has a variable {name[:64]!a}; a name may have only letters, digits and _"
    return None


_RULES: Mapping[str, Callable[[Value], Problem]] = {
    "site": _name,
    "cloud": _name,
    "storage_root": lambda value: url_problem(str(value)) if value else None,
    "environment": _environment,
}
"""Rules for the values of parameters, in addition to their types."""
