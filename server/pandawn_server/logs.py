"""Structured logs on standard error: JSON for machines, or lines for people.

Callers bind the subject of an event, everywhere by these names: `job`, `attempt`, `pilot`, `node`, `queue`,
`task`. The current call is added automatically: the interceptor sets it with `enter_call`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TextIO, cast
from urllib.parse import unquote

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LogFormat = Literal["auto", "console", "json"]
"""`auto` is `console` on a terminal and `json` elsewhere."""

LogLevel = Literal["debug", "info", "warning", "error"]
"""The least severe level that is logged."""

Log = FilteringBoundLogger
"""What `structlog.get_logger` returns once `configure_logs` has been called."""


_CHATTY = ("alembic.runtime.plugins", "grpc")
"""Loggers of libraries that log nothing useful below WARNING, at each start or many times a second."""


_GRPC_CORE = "grpc._cython.cygrpc"
_CLIENT_LEFT = "ExecuteBatchError raised in core"
"""What grpc.aio logs, with a traceback, when it cannot send an answer."""


@dataclass(frozen=True, slots=True)
class _Call:
    rpc: str
    peer: str


# A variable without formatting: it is set for every call and read for the few that log.
_CALL: ContextVar[_Call | None] = ContextVar("pandawn_call", default=None)


def enter_call(rpc: str, peer: str) -> None:
    """Adds the call to everything logged from now on in this task, and in threads that work for it.

    `peer` is in gRPC's form.
    """
    _CALL.set(_Call(rpc, peer))


def configure_logs(level: LogLevel, form: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Configures structlog, and the logging module for libraries; call it once per process."""
    as_json = form == "json" or (form == "auto" and not stream.isatty())
    lines = cast("TextIO", _Unfailing(stream))
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_call,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _renderers(as_json, colors=not as_json and stream.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*first, structlog.stdlib.add_logger_name, ExtraAdder()],
            processors=[ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # What libraries log at INFO matters only for debugging.
    root.setLevel(number if number < logging.INFO else max(number, logging.WARNING))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(_GRPC_CORE).addFilter(_is_ours)
    logging.captureWarnings(capture=True)


def _is_ours(record: logging.LogRecord) -> bool:
    # A client that left before its answer: a kilobyte per call, perhaps thousands of times a second.
    return not str(record.msg).startswith(_CLIENT_LEFT)


def _renderers(as_json: bool, colors: bool) -> Sequence[Processor]:
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _add_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    call = _CALL.get()
    if call is not None:
        event.setdefault("rpc", call.rpc)
        event.setdefault("peer", unquote(call.peer))
    return event


class _Unfailing(io.TextIOBase):
    """A stream that drops what it cannot write: a full disk under the log must not fail calls."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
