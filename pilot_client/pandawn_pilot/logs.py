"""Log lines of the pilot: one line each, as text or JSON, with node, pilot, job and attempt."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

# Longer messages lose their middle, so that a long name cannot fill a disk.
MAX_LINE_CHARACTERS = 8000
# Context of a line, in the order in which it is printed.
CONTEXT_FIELDS = ("node", "pilot", "job", "attempt")
_LOGGER = "pandawn_pilot"
# Most lines that wait to be written.
_MOST_LINES = 10_000


class Log(_Adapter):
    """A logger that adds a context (node, pilot, job, attempt) to its lines."""

    def process(
        self, msg: str, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """Adds the context; logging.LoggerAdapter asks for this signature."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def set(self, **context: str) -> None:
        """Adds to the context of all further lines."""
        self.extra = {**(self.extra or {}), **context}


class JobLog(Log):
    """The log of one job: its lines also go to a file in the job's log tarball."""

    def __init__(self, log: Log, path: Path, *, job: str, attempt: str) -> None:
        super().__init__(log.logger, {**(log.extra or {}), "job": job, "attempt": attempt})
        self._stream = path.open("a", encoding="utf-8")
        # Payloads of other accounts must not read it.
        os.fchmod(self._stream.fileno(), 0o600)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 (as in LoggerAdapter)
        """Logs a line in both places."""
        super().log(level, msg, *args, **kwargs)
        if not self._stream.closed:
            text = str(msg) % args if args else str(msg)
            line = f"{_utc(time.time())} {logging.getLevelName(level)} {visible(text)}\n"
            # A payload that filled the disk must not prevent the job's report.
            with contextlib.suppress(OSError):
                self._stream.write(line)
                self._stream.flush()

    def close(self) -> None:
        """Closes the job's file; later lines go to the pilot's log only."""
        with contextlib.suppress(OSError):
            self._stream.close()


class LineFormatter(logging.Formatter):
    """One line of text: time, level, message, context as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text} | {self.formatException(record.exc_info)}"
        context = "".join(f" {name}={value}" for name, value in _context(record).items())
        return f"{_utc(record.created)} {record.levelname} {visible(text)}{context}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        document = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": _bounded(record.getMessage(), MAX_LINE_CHARACTERS),
            **_context(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


class NonblockingHandler(logging.Handler):
    """Writes lines in a background thread, so that a log on a hanging disk blocks no one.

    Lines are dropped when 10,000 wait already, and on a full disk.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_LINES)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues a line."""
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def drain(self, seconds: float) -> None:
        """Waits until all lines are written, at most `seconds`."""
        written = threading.Thread(target=self._lines.join, daemon=True)
        written.start()
        written.join(seconds)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError):
                while line:
                    line = line[os.write(self._descriptor, line) :]
            self._lines.task_done()


def make_nonblocking_log(*, as_json: bool, node: str) -> Log:
    """The log of a process that must not block on its standard error."""
    return _log_to(NonblockingHandler(sys.stderr.fileno()), as_json, node, logging.INFO)


def drain_logs(seconds: float) -> None:
    """Waits for queued lines before the process ends, at most `seconds`."""
    for handler in logging.getLogger(_LOGGER).handlers:
        if isinstance(handler, NonblockingHandler):
            handler.drain(seconds)


def make_log(
    *, as_json: bool, node: str, stream: TextIO = sys.stderr, level: int = logging.INFO
) -> Log:
    """The log of the process."""
    return _log_to(logging.StreamHandler(stream), as_json, node, level)


def _log_to(handler: logging.Handler, as_json: bool, node: str, level: int) -> Log:
    handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
    logger = logging.getLogger(_LOGGER)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)
    return Log(logger, {"node": node})


def _context(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(getattr(record, name)) for name in CONTEXT_FIELDS if hasattr(record, name)}


def visible(text: str, at_most: int = MAX_LINE_CHARACTERS) -> str:
    """The text as one line of bounded length that is safe for terminals and editors.

    Logs contain names from users and output of payloads. Control, bidirectional and invisible characters
    are written as Python escapes, so that nothing is lost.
    """
    text = _bounded(text, at_most)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _bounded(text: str, at_most: int) -> str:
    if len(text) <= at_most:
        return text
    left_out = len(text) - at_most
    return f"{text[: at_most // 2]} [... {left_out} characters ...] {text[-at_most // 2 :]}"


def _utc(seconds: float) -> str:
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        + f".{int(seconds % 1 * 1000):03d}Z"
    )
